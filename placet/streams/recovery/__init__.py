"""From the log to a store that a task can run on, beside the running loop."""
