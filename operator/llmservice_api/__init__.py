"""The contract of operator and sidecar: names, spec types, configuration and status report.

Imports neither program; both depend on it.
"""

__version__ = "0.1.0"
