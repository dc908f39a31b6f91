"""The wire formats: .proto sources and the code generated from them by generate.py."""
