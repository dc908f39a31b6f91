"""vLLM scheduler classes for systems that can only live in the engine; load by `--scheduler-cls`.

They subclass vLLM's own scheduler, whose interface is internal: each refuses to start on another
version than the one it was tested with.
"""
