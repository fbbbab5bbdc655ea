"""Simulated brokers: what Kafka keeps and answers. They know no client, and nothing in them waits."""
