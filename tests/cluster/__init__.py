"""A real Kubernetes for tests: its programs, a control plane without root, and a whole node."""
