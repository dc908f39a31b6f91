"""The demo: one workload, two orders, one engine; what happened as table, report and traces."""
