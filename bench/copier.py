"""The transactional copier, one process: it reads what a gate reads, writes what a gate writes, and decides nothing.

What Kafka and its client leave for a gate: one poll, one transaction, with the gate's batches and client options. For
each input it writes ready-made records of the gate: as many, of the same sizes, with the same headers.

    bench/copier.py BOOTSTRAP_SERVERS GROUP INPUT BATCH_RECORDS_MAX INSTANCE FILE

FILE holds them, pickled (`bench/written.py`): what follows from each input, in turn, and what ends a transaction.
"""

from __future__ import annotations

import pickle
import signal
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition


def main(bootstrap_servers: str, group: str, source: str, batch_records_max: str, instance: str, file: str) -> None:
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    by_input, transaction = pickle.loads(Path(file).read_bytes())
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
    ready_made = cycle(by_input)
    transactions = 0
    while not stopping:
        transactions += copy_once(consumer, producer, int(batch_records_max), ready_made, transaction)
    consumer.close()
    print("transactions", transactions)


def copy_once(
    consumer: Consumer, producer: Producer, batch_records_max: int, ready_made: Any, transaction: list[Any]
) -> bool:
    """Tell whether there was anything to copy."""
    first = consumer.poll(0.2)
    if first is None or first.error():
        return False
    messages: list[Any] = [first, *consumer.consume(batch_records_max - 1, 0)]
    metadata, positions, produce = consumer.consumer_group_metadata(), {}, producer.produce
    producer.begin_transaction()
    for message, records in zip(messages, ready_made, strict=False):
        key, partition = message.key(), message.partition()
        positions[partition] = message.offset() + 1
        for topic, _, value, headers in records:
            produce(topic, value, key, partition, headers=headers)
    for partition in positions:
        for topic, key, value, headers in transaction:
            produce(topic, value, key, partition, headers=headers)
    ends = [TopicPartition(messages[0].topic(), partition, position) for partition, position in positions.items()]
    producer.send_offsets_to_transaction(ends, metadata)
    producer.commit_transaction()
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
