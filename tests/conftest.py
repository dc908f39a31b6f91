"""Settings shared by every test level. Fixtures live beside the level that uses them."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code; a failing example is printed so that it can be replayed.
_COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("local", **_COMMON)
settings.register_profile("ci", **_COMMON, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
