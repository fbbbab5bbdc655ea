"""Kafka's clients, wrapped: one module owns one client, and translates its errors into reactions."""
