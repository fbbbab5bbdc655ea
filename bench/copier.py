"""The transactional copier, one process: the same bytes in and out, nothing decoded, nothing decided.

What Kafka and its client leave for a gate: the loop of the gate (one poll, one transaction, the same batches and client
options) with nothing inside. It writes as many records as the gate does on the bench's workload: each to decisions,
seven of ten to the changelog.

    bench/copier.py BOOTSTRAP_SERVERS GROUP INPUT DECISIONS CHANGELOG INSTANCE
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

BATCH_RECORDS_MAX = 2_000
CHANGES_OF_TEN = 7


def main(bootstrap_servers: str, group: str, source: str, decisions: str, changelog: str, instance: str) -> None:
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    consumer = Consumer({
        "bootstrap.servers": bootstrap_servers, "group.id": group, "group.protocol": "consumer",
        "group.remote.assignor": "range", "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "isolation.level": "read_committed", "check.crcs": True, "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 16_384, "fetch.queue.backoff.ms": 10,
    })  # fmt: skip
    producer = Producer({
        "bootstrap.servers": bootstrap_servers, "transactional.id": instance, "linger.ms": 2, "batch.size": 262_144,
        "queue.buffering.max.messages": 1_000_000, "compression.type": "lz4",
    })  # fmt: skip
    producer.init_transactions(30)
    consumer.subscribe([source])
    while not stopping:
        copy_once(consumer, producer, decisions, changelog)
    consumer.close()


def copy_once(consumer: Consumer, producer: Producer, decisions: str, changelog: str) -> None:
    first = consumer.poll(0.2)
    if first is None or first.error():
        return
    messages: list[Any] = [first, *consumer.consume(BATCH_RECORDS_MAX - 1, 0)]
    metadata, positions, produce = consumer.consumer_group_metadata(), {}, producer.produce
    producer.begin_transaction()
    for number, message in enumerate(messages):
        key, value, partition = message.key(), message.value(), message.partition()
        positions[partition] = message.offset() + 1
        produce(decisions, value, key, partition)
        if number % 10 < CHANGES_OF_TEN:
            produce(changelog, value, key, partition)
    ends = [TopicPartition(messages[0].topic(), partition, position) for partition, position in positions.items()]
    producer.send_offsets_to_transaction(ends, metadata)
    producer.commit_transaction()


if __name__ == "__main__":
    main(*sys.argv[1:])
