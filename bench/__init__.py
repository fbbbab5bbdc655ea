"""What ops/bench and ops/count measure, and with which workload."""
