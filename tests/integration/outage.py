"""Gates and a plain transactional copier on three brokers under load: how long does each partition stand still?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from placet.devbroker.broker import Broker
from placet.processors.address import partition_of
from placet.streams.errors import LogUnreachable
from placet.streams.host import LocalHost
from placet.streams.kafka.admin import Admin
from tests.cluster import Cluster
from tests.integration.gates import World, wait_until

PARTITIONS = 6
EVERY_S = 0.1
WAYS = {"killed": (Broker.kill, Broker.start), "silent": (Broker.pause, Broker.resume)}
"""How a broker goes away, and how it comes back."""
_COPIER = Path(__file__).with_name("plain_copier.py")


class Outage:
    """A world with gates, a copier of the same facts, and a steady load: ten a second to each partition.

    Args:
        cluster: runs already.
        folder: of logs and local state.
        app: names topics and group.
        gates: their names.
    """

    def __init__(self, cluster: Cluster, folder: Path, app: str, gates: Sequence[str] = ("a", "b")) -> None:
        self.cluster = cluster
        self.names = gates
        self.world = World(cluster.bootstrap_servers, folder, app, partitions=PARTITIONS)
        self.copies = f"{app}-copies"
        self._stop = Event()
        self._copier: subprocess.Popen[bytes] | None = None
        self._load = Thread(target=self._send, name="load", daemon=True)
        self._keys = [next(keys_of(partition)) for partition in range(PARTITIONS)]
        # What is sent is on the log at once where there is a leader. With acks=all, each of its requests would wait for
        # the dead broker's acknowledgement until the election, and so few facts would be there to wait.
        self._producer = Producer({
            "bootstrap.servers": cluster.bootstrap_servers, "partitioner": "murmur2_random", "linger.ms": 2,
            "acks": 1, "socket.timeout.ms": 4_000, "request.timeout.ms": 3_000, "log_level": 2,
            "topic.metadata.refresh.interval.ms": 500, "socket.connection.setup.timeout.ms": 3_000,
        })  # fmt: skip

    def __enter__(self) -> Self:
        self.world.__enter__()
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.cluster.bootstrap_servers})
        made = admin.create_topics(
            [NewTopic(self.copies, PARTITIONS, config={"message.timestamp.type": "LogAppendTime"})]
        )
        made[self.copies].result(20)
        self._start_copier()
        self.gates = [self.world.gate(name) for name in self.names]
        self._load.start()
        wait_until(lambda: self._flows(self.copies) and self._flows(self.world.topics.decisions), 60, "all flows")

    def _start_copier(self) -> None:
        where = [self.cluster.bootstrap_servers, self.copies, self.world.topics.signals, self.copies, self.copies]
        with (self.world.folder / "copier.log").open("ab") as log:
            self._copier = subprocess.Popen(
                [sys.executable, str(_COPIER), *where], stdout=log, stderr=log, start_new_session=True
            )

    def restart_copier(self) -> None:
        """Start the copier anew: sending its positions can hang for ever (librdkafka #5511)."""
        assert self._copier is not None
        self._copier.kill()
        self._copier.wait(10)
        self._start_copier()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._copier is not None:
            self._copier.kill()
            self._copier.wait(10)
        self.world.__exit__(kind, error, trace)

    def end_load(self) -> None:
        """Stop the load. What was sent can be read: behind it lies a fact that all replicas have."""
        self._stop.set()
        if self._load.ident is not None:
            self._load.join()
        assert self._producer.flush(60) == 0
        for key in self._keys:
            self.world.signal(key, "added", {"amount": 1}, f"last-{key}")
        self.world.flush()

    def leads(self, node: int) -> bool:
        """Whether a broker leads partitions still, as the others have it."""
        others = ",".join(b.bootstrap_servers for number, b in self.cluster.brokers.items() if number != node)
        with suppress(KafkaException):
            topics = AdminClient({"bootstrap.servers": others, "log_level": 2}).list_topics(timeout=2).topics
            return any(part.leader == node for topic in topics.values() for part in topic.partitions.values())
        return True

    def whole(self) -> bool:
        """Whether each replica is in sync again, those of Kafka's own topics too."""
        topics = [*self.world.topics, self.copies, "__consumer_offsets", "__transaction_state"]
        options = {"bootstrap.servers": self.cluster.bootstrap_servers}
        with suppress(LogUnreachable), Admin(LocalHost(), options) as admin:
            return not any(topic.under_replicated for topic in admin.describe_topics(topics).values())
        return False

    def check(self) -> None:
        """Everything is decided once and verifies, no gate ended or stopped a task, and none shows a traceback."""
        self.end_load()
        self.world.decided(90)
        assert "No difference" in self.world.placet("verify").stdout
        for gate in self.world.gates:
            assert gate.terminate() == 0
            assert not gate.events("task stopped")
            assert "Traceback" not in gate.text()

    def longest_wait_s(self, target: str, since_s: float) -> float:
        """The longest time that a fact of any partition waited, of those since a moment; what is not out waits still.

        Args:
            target: the topic of decisions, or of copies.
            since_s: when the facts were appended, at the earliest; seconds since the epoch.

        What comes out of a partition is in the order of what goes in, one for one.
        """
        now_ms = time.time() * 1000
        came_out = self._times(target)  # before what goes in, which goes on
        went_in = self._times(self.world.topics.signals)
        waits = [0.0]
        for partition, times in went_in.items():
            ends = came_out.get(partition, [])
            ends += [now_ms] * (len(times) - len(ends))
            waits += [end - began for began, end in zip(times, ends, strict=True) if began >= since_s * 1000]
        return max(waits) / 1000

    def _times(self, topic: str) -> dict[int, list[float]]:
        found: dict[int, list[float]] = {}
        for message in self.world.read(topic):
            found.setdefault(message.partition(), []).append(message.timestamp()[1])
        return found

    @property
    def loads(self) -> bool:
        """Whether the load goes on."""
        return self._load.is_alive()

    def inputs(self, number: int) -> Iterator[tuple[str, int, str, bytes]]:
        """What is sent at one of ten moments of a second, by topic, partition and key; `number` counts them."""
        for partition, key in enumerate(self._keys):
            value = self.world.signal_bytes(key, "added", {"amount": 1}, f"added-{key}-{number}")
            yield self.world.topics.signals, partition, key, value

    def _send(self) -> None:
        for number in count():
            began_s = time.monotonic()
            for topic, partition, key, value in self.inputs(number):
                self._producer.produce(topic, value, key.encode(), partition)
            self._producer.poll(0)
            if self._stop.wait(max(0.0, began_s + EVERY_S - time.monotonic())):
                return

    def _flows(self, topic: str) -> bool:
        with suppress(KafkaException):  # a topic that was just made may not be known everywhere
            ends = self.world.ends([topic])
            return all(ends.get((topic, partition), 0) > 5 for partition in range(PARTITIONS))
        return False


def keys_of(partition: int) -> Iterator[str]:
    """Give one key of a partition after the other."""
    return (key for n in count() if partition_of((key := f"order-{n}").encode(), PARTITIONS) == partition)
