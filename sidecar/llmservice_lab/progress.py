"""How long work tells that it goes on. Types only: who draws is the caller's business."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

# (done so far, a remark)
Update = Callable[[int, str], None]
# (label, total) opens one display
Stage = Callable[[str, int], AbstractContextManager[Update]]
