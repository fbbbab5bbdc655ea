"""Simulated clients: calls as confluent-kafka makes them, and what librdkafka's own threads do beside them."""
