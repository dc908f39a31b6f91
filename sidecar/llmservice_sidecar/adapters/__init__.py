"""The outside world: doors, engines, predictors, telemetry. One third-party library per file."""
