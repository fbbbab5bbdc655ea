"""Reads what comes in, what is decided and what is copied, while it is written."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event, Lock, Thread
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from bench.soak.waits import Waits
from placet.schemas.codec.codec import Codec

__all__ = ["Follower"]


class Follower:
    """A thread that tells `Waits` of every record.

    Args:
        bootstrap_servers: all brokers.
        decisions: that topic; `copies`: the copier's; `inputs`: the others, facts first.
        partitions: of each.
        codec: reads decisions.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        inputs: tuple[str, ...],
        decisions: str,
        copies: str,
        partitions: int,
        codec: Codec,
    ) -> None:
        self._inputs, self._decisions, self._copies, self._codec = inputs, decisions, copies, codec
        self._waits = Waits(inputs[0], inputs)
        self._ends: dict[tuple[str, int], int] = {}
        self._lock, self._stop = Lock(), Event()
        self.failed = ""
        """Why the thread has ended before it should."""
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap_servers, "group.id": "soak-eyes", "enable.auto.commit": False,
            "isolation.level": "read_committed", "enable.partition.eof": True, "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": 1_000, "socket.timeout.ms": 6_000, "log_level": 2,
            "socket.connection.setup.timeout.ms": 3_000, "fetch.error.backoff.ms": 200,
        })  # fmt: skip
        places = [(topic, n) for topic in (*inputs, decisions, copies) for n in range(partitions)]
        self._consumer.assign([TopicPartition(topic, n, 0) for topic, n in places])
        self._thread = Thread(target=self._follow, name="follower", daemon=True)
        self._thread.start()

    @property
    def inputs(self) -> int:
        """How many inputs were seen."""
        with self._lock:
            return self._waits.inputs

    @property
    def decisions(self) -> int:
        """How many decisions were seen."""
        with self._lock:
            return self._waits.decisions

    def has_read(self, ends: Mapping[tuple[str, int], int]) -> bool:
        """Whether it has come to these ends."""
        return all(self._ends.get(place, 0) >= end for place, end in ends.items())

    def close(self) -> Waits:
        """End; return what it has seen."""
        self._stop.set()
        self._thread.join()
        return self._waits

    def _follow(self) -> None:
        try:
            while not self._stop.is_set():
                messages = self._consumer.consume(2_000, 0.2)
                with self._lock:
                    for message in messages:
                        self._take(message)
        except Exception as error:  # noqa: BLE001 - told by who looks
            self.failed = f"{type(error).__name__}: {error}"
        finally:
            self._consumer.close()

    def _take(self, message: Any) -> None:
        topic, partition, offset, error = message.topic(), message.partition(), message.offset(), message.error()
        if error is not None:
            if error.name() == "_PARTITION_EOF":
                self._ends[topic, partition] = offset
            return
        at_ms = message.timestamp()[1]
        if topic in self._inputs:
            self._waits.came(topic, partition, offset, at_ms)
        elif topic == self._copies:
            self._waits.copied(partition, at_ms)
        else:
            decision, at = self._codec.decode_decision(message.value())
            self._waits.decided(at.topic, at.partition, at.offset, at_ms, decision.outcome.name)
