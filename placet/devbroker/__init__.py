"""The embedded broker: a real one-node Apache Kafka from Python packages, for development, tests and demos."""
