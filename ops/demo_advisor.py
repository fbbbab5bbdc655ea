"""A simple advisor: reads committed states, thinks for a while, proposes. It decides nothing, and it may be wrong.

It thinks against the version that it read. Meanwhile the world moves on, so that some of its proposals come too late,
twice, or about a flight that is gone. That is its right: the gate decides.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from threading import Event, Thread
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from placet.schemas.codec import Codec
from placet.schemas.definition import Definition
from placet.schemas.messages import Kind, Message
from placet.schemas.state import Change
from placet.streams.topology import EntityTopics

_THINKS_S = 0.06
"""Median of a lognormal distribution whose sigma is 1: one thought of a hundred takes ten times as long."""
_REPEATS = 0.08
"""Share of proposals that are sent again, as after a reply that was lost."""
_NOTICE_VALID_MS = 500


class _Thought(NamedTuple):
    due_s: float
    number: int
    message: Message
    repeat: bool


class Advisor(Thread):
    """An agent in a thread of its own, with its own consumer and producer.

    Args:
        bootstrap_servers: of the broker.
        definition: of a flight.
        topics: of flights.
        partitions: of each topic.
        seed: of its fancies.
        sent: is called with the id of each proposal as it goes out.

    Attributes:
        proposed: how many proposals were sent so far, repeats included.
        read: how many changes it has read and had its ideas about.
        idle: whether it has nothing more to say about them.
    """

    def __init__(
        self, bootstrap_servers: str, definition: Definition, topics: EntityTopics, partitions: int, seed: int,
        sent: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(name="advisor", daemon=True)
        self.proposed = self.read = 0
        self.idle = True
        self._stopping = Event()
        self._topics, self._partitions, self._sent = topics, partitions, sent
        self._codec, self._random = Codec(definition), Random(seed)
        self._thoughts: list[_Thought] = []
        self._numbers = count()
        self._last_flight = ""
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "partitioner": "murmur2_random", "linger.ms": 5}
        )
        # Committed states only: a version seen in an aborted transaction may come back with other content.
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap_servers, "group.id": "advisor", "enable.auto.commit": False,
            "isolation.level": "read_committed",
        })  # fmt: skip

    def stop(self) -> None:
        """End it, and wait for the end."""
        self._stopping.set()
        if self.is_alive():
            self.join(10)

    def run(self) -> None:
        self._consumer.assign([TopicPartition(self._topics.changelog, n, 0) for n in range(self._partitions)])
        while not self._stopping.is_set():
            messages: list[Any] = [
                m for m in self._consumer.consume(500, 0.01) if m.error() is None and m.value() is not None
            ]
            for message in messages:
                change = self._codec.decode_change(message.value(), message.headers())
                for proposal in self._about(change):
                    self._think(proposal, repeat=False)
            self._propose()
            self.idle = not self._thoughts
            self.read += len(messages)
        self._producer.purge()
        self._producer.close()
        self._consumer.close()

    def _about(self, change: Change) -> Iterator[Message]:
        """Have an idea or two about a flight, such as a hasty agent would have."""
        fields, status, random = change.state.fields, change.state.status, self._random
        late = fields["expected_delay"]
        other, self._last_flight = self._last_flight, change.entity_id
        if status == "scheduled" and random.random() < 0.15:
            yield self._proposal(
                change, "hold_connection", {"minutes": random.randrange(5, 25), "connecting_from": other or "unknown"}
            )
        if (status == "scheduled" and late >= 60) or (status == "cancelled" and not fields["rebooked"]):
            yield self._proposal(change, "rebook", {"passengers": random.randrange(1, 40), "to_flight": other})
        if status in ("scheduled", "departed") and late >= 10 and not fields["notified"]:
            yield self._proposal(change, "notify_late", {"text": f"Your flight is about {late} minutes late."})

    def _proposal(self, change: Change, name: str, payload: dict[str, Any]) -> Message:
        """Base it on the version that was read, and name what made it think: the occasion of its dedup key."""
        now_ms = time.time_ns() // 1_000_000
        return Message(
            Kind.PROPOSAL, name, f"{name}-{next(self._numbers)}", change.entity_id, payload, now_ms, now_ms,
            caused_by=change.input_id, valid_until=now_ms + _NOTICE_VALID_MS if name == "notify_late" else None,
            base_version=change.state.version, base_incarnation=change.state.incarnation, proposer="demo-advisor",
        )  # fmt: skip

    def _think(self, message: Message, *, repeat: bool) -> None:
        due_s = time.monotonic() + _THINKS_S * self._random.lognormvariate(0, 1)
        heapq.heappush(self._thoughts, _Thought(due_s, next(self._numbers), message, repeat))

    def _propose(self) -> None:
        """Send what has been thought through; some of it once more a little later."""
        now_s = time.monotonic()
        while self._thoughts and self._thoughts[0].due_s <= now_s:
            _, _, message, repeat = heapq.heappop(self._thoughts)
            self._sent(message.input_id)
            self.proposed += 1
            self._producer.produce(
                self._topics.proposals, self._codec.encode_message(message), message.entity_id.encode()
            )
            if not repeat and self._random.random() < _REPEATS:
                self._think(message, repeat=True)
        self._producer.poll(0)
