"""The sidecar: predicts lengths, orders the queue in front of the engine, traces every request."""
