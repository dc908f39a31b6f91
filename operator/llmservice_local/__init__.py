"""Runs what the operator would put in a pod as local processes; the `llmservice` command line."""
