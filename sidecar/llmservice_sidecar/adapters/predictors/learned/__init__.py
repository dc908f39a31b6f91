"""What a service's own requests teach, per served model; kept, and shared between replicas."""
