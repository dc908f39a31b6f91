"""`python -m llmservice_local`: the same as the `llmservice` command."""

from __future__ import annotations

from llmservice_local.cli import main

if __name__ == "__main__":
    main()
