"""The loop and its tasks: one poll, one transaction."""
