"""Experiments, offline and live: simulator, workloads, benchmarks, reports, test engines."""
