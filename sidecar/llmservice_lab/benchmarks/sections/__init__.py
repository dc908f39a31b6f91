"""The generated part of docs/benchmarks.md, one file a section."""
