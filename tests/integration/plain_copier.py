"""A plain transactional copier, the yardstick of a gate: what Kafka and its client leave for any such loop.

It polls, copies, sends its positions and commits; whatever fails, it makes both clients anew. Nothing is tuned.

    plain_copier.py BOOTSTRAP_SERVERS GROUP SOURCE TARGET INSTANCE
"""

from __future__ import annotations

import sys
from contextlib import suppress

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition


def main(bootstrap_servers: str, group: str, source: str, target: str, instance: str) -> None:
    while True:
        consumer = Consumer({
            "bootstrap.servers": bootstrap_servers, "group.id": group, "group.protocol": "consumer",
            "auto.offset.reset": "earliest", "enable.auto.commit": False, "isolation.level": "read_committed",
        })  # fmt: skip
        consumer.subscribe([source])
        with suppress(KafkaException):
            producer = Producer({"bootstrap.servers": bootstrap_servers, "transactional.id": instance})
            producer.init_transactions(30)
            while True:
                copy_once(consumer, producer, target)
        consumer.close()


def copy_once(consumer: Consumer, producer: Producer, target: str) -> None:
    messages = [message for message in consumer.consume(500, 0.1) if not message.error()]
    if not messages:
        return
    positions: dict[tuple[str, int], int] = {}
    producer.begin_transaction()
    for message in messages:
        positions[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        producer.produce(target, message.value(), message.key(), message.partition() or 0)
    offsets = [TopicPartition(topic, partition, position) for (topic, partition), position in positions.items()]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
    producer.commit_transaction()


if __name__ == "__main__":
    main(*sys.argv[1:])
