"""Settings shared by every test level. Fixtures live beside the level that uses them."""

from __future__ import annotations

import asyncio
import os

from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code; a failing example is printed to be replayed.
_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("local", _COMMON)
settings.register_profile("ci", _COMMON, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# pytest-asyncio asks for the current event loop before it makes its own. Asked for the first time,
# Python would create one that nobody closes, and the warning would fail whatever test runs then.
asyncio.set_event_loop(None)
