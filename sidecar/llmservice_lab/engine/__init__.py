"""Real vLLM for local mode, tests and experiments: environment, tiny model, latency model."""
