"""What a gate tells of itself: log lines, metrics, the endpoint that serves them."""
