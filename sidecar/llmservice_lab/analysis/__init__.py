"""Latency analysis: spans in, the reason why requests were slow out."""
