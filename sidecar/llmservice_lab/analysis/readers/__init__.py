"""Where requests come from: OTLP JSON files, Jaeger's query API, Tempo's API."""
