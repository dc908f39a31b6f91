"""The asyncio shell around the core: ports, gate, pipeline. Third party: the tracing API only."""
