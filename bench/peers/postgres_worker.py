"""The worker of the PostgreSQL peer: it hands batches from Kafka to the procedure `decide`, one transaction for each.

    bench/peers/postgres_worker.py BOOTSTRAP_SERVERS TOPIC PARTITIONS DATABASE THREADS BATCH_RECORDS_MAX

Threads share the partitions; each has its own connection. Where to go on is what the outbox has, so nothing is decided
twice. After each transaction it says when that was, in seconds, and how many were decided.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import psycopg
from confluent_kafka import Consumer, TopicPartition

POSITIONS = "SELECT part, max(log_offset) + 1 FROM outbox WHERE part = ANY(%s) GROUP BY part"
DECIDE = "CALL decide(%s::jsonb, %s::int[], %s::bigint[])"


def main(
    bootstrap_servers: str, topic: str, partitions: str, database: str, threads: str, batch_records_max: str
) -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    shares = [list(range(first, int(partitions), int(threads))) for first in range(int(threads))]
    arguments = (bootstrap_servers, topic, database, int(batch_records_max), stopping)
    with ThreadPoolExecutor(len(shares)) as pool:
        workers = [pool.submit(work, share, *arguments) for share in shares]
        wait(workers, return_when=FIRST_EXCEPTION)
        stopping.set()
    for worker in workers:
        worker.result()


def work(
    partitions: list[int], bootstrap_servers: str, topic: str, database: str, most: int, stopping: threading.Event
) -> None:
    """Decide what comes in some partitions."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap_servers, "group.id": topic, "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "isolation.level": "read_committed", "fetch.queue.backoff.ms": 10,
    })  # fmt: skip
    with psycopg.connect(database, autocommit=True) as connection:
        known: dict[int, int] = dict(connection.execute(POSITIONS, [partitions]).fetchall())
        consumer.assign([TopicPartition(topic, partition, known.get(partition, 0)) for partition in partitions])
        while not stopping.is_set():
            messages = [message for message in consumer.consume(most, 0.05) if message.error() is None]
            if messages:
                proposals = b"[" + b",".join(message.value() or b"" for message in messages) + b"]"
                parts, offsets = [one.partition() for one in messages], [one.offset() for one in messages]
                connection.execute(DECIDE, [proposals.decode(), parts, offsets])
                print(f"decided {time.perf_counter()} {len(messages)}\n", end="", flush=True)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
