"""The download program: brings a model and its adapters into a directory before the engine starts.

Its own process (`python -m llmservice_sidecar.fetch`); knows nothing of the doors or the gate.
"""
