"""The activator: stands in for services at zero replicas and holds requests until one is ready."""
