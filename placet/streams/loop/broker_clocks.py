"""How late it is at least by the brokers' clocks, as the times tell that they stamped on records.

A record is received after it was stamped. So its leader's clock is further, at any later moment, than the stamped time
and what has passed since on a clock that never goes back, less what clocks drift.

    measured     the slowest of all brokers that hold an input partition of this gate's tasks
    not yet      this machine's clock, less the skew that is allowed: each commit proves that it is no more

Who stamped a record is known where a partition had one leader for some time before and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Final

from placet.streams.kafka.cluster import TopicInfo
from placet.streams.records import ConsumerRecord, TopicPartition

__all__ = ["BrokerClocks", "Stamps"]

_DRIFT_MS: Final = 50.0
_DRIFT_MS_A_SECOND: Final = 0.5
"""Clocks go wrong by less, and are set right no faster (NTP: 500 ppm)."""
_COUNTS_FOR_S: Final = 1_200.0
_LOOK_WITHIN_S: Final = 15.0
"""Between two looks that are further apart a leader may have gone and come back."""
_EQUAL_LOOKS: Final = 2
"""Before the last one: an answer to a record may be some seconds late."""

Stamps = Mapping[TopicPartition, tuple[int, float]]
"""The time that a partition's leader stamped on a record, ms since the epoch, and when we received that, in seconds of
the clock that never goes back."""


class BrokerClocks:
    """Measures how far the brokers' clocks are, by what comes in and goes out anyway.

    Args:
        ask_topics: asks a broker who leads the partitions of topics, and returns at once.
        now_ms: this machine's clock, ms since the epoch.
        monotonic_s: a clock that never goes back, in seconds.
        skew_max_ms: how far this machine's clock may be off the brokers'.
    """

    def __init__(
        self,
        ask_topics: Callable[[Iterable[str]], Mapping[str, Future[TopicInfo]]],
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
        skew_max_ms: int,
    ) -> None:
        self.skew_max_ms = skew_max_ms
        self._ask_topics = ask_topics
        self._now_ms = now_ms
        self._monotonic_s = monotonic_s
        self._heard: dict[TopicPartition, float] = {}  # how far a clock is ahead of ours that never goes back, in ms
        self._heard_before: dict[TopicPartition, float] = {}
        self._asked: Mapping[str, Future[TopicInfo]] = {}
        self._asked_of: frozenset[TopicPartition] = frozenset()
        self._asked_s = float("-inf")
        self._leaders: dict[TopicPartition, tuple[int, int]] = {}  # and in how many looks it was the leader
        self._ahead: dict[int, tuple[float, float]] = {}  # by broker, and when that was
        self._slowest: float | None = None

    def hear(self, stamps: Stamps) -> None:
        """Take note of times that leaders stamped."""
        heard = self._heard
        for partition, (stamped_ms, received_s) in stamps.items():
            ahead = stamped_ms - received_s * 1000
            heard[partition] = max(heard.get(partition, ahead), ahead)

    def read(self, lanes: Iterable[list[ConsumerRecord]]) -> None:
        """Take note of the times of records that were polled just now: the last one of each task counts."""
        now_s = self._monotonic_s()
        self.hear({TopicPartition(lane[-1].topic, lane[-1].partition): (lane[-1].timestamp, now_s) for lane in lanes})

    def look(self, partitions: Iterable[TopicPartition]) -> None:
        """Ask who leads, and who may: to be called every few seconds while time matters.

        Args:
            partitions: input partitions of all tasks that run.
        """
        now_s = self._monotonic_s()
        if now_s - self._asked_s > _LOOK_WITHIN_S:
            self._leaders, self._heard = {}, {}
        self._asked_s, self._asked_of = now_s, frozenset(partitions)
        self._heard_before, self._heard = self._heard, {}
        topics = {partition.topic for partition in (*self._asked_of, *self._heard_before)}
        self._asked = self._ask_topics(sorted(topics))

    def forget(self) -> None:
        """Measure anew for other tasks: their partitions may lie on other brokers."""
        self._slowest = None
        self._asked = {}

    @property
    def slack_ms(self) -> int:
        """How far `earliest_ms` is behind this machine's clock because nothing is measured yet, ms; else 0."""
        return self.skew_max_ms if self._slowest is None else 0

    def earliest_ms(self) -> int:
        """Return a time, ms since the epoch, not ahead of our clock: no leader stamps an earlier one from now on."""
        if self._asked and all(answer.done() for answer in self._asked.values()):
            self._take()
        now_ms = self._now_ms()
        proven_ms = now_ms - self.skew_max_ms
        if self._slowest is None:
            return proven_ms
        return min(now_ms, max(proven_ms, int(self._monotonic_s() * 1000 + self._slowest)))

    def _take(self) -> None:
        asked, self._asked = self._asked, {}
        infos = {name: answer.result() for name, answer in asked.items() if answer.exception() is None}
        leaders = {
            TopicPartition(name, number): leader
            for name, info in infos.items()
            for number, leader in enumerate(info.leaders)
        }
        measured: dict[int, float] = {}
        for partition, ahead in self._heard_before.items():
            leader, looks = self._leaders.get(partition, (-1, 0))
            if looks >= _EQUAL_LOOKS and leaders.get(partition) == leader:
                measured[leader] = max(measured.get(leader, ahead), ahead)
        now_s = self._monotonic_s()
        self._ahead.update((broker, (ahead, now_s)) for broker, ahead in measured.items())
        before = self._leaders
        self._leaders = {
            partition: (leader, before[partition][1] + 1 if before.get(partition, (-1, 0))[0] == leader else 1)
            for partition, leader in leaders.items()
            if leader >= 0
        }
        self._slowest = self._slowest_of(infos, now_s)

    def _slowest_of(self, infos: Mapping[str, TopicInfo], now_s: float) -> float | None:
        """Return how far the slowest clock is of those that may stamp inputs; None where one is not measured."""
        slowest = None
        for topic, number in self._asked_of:
            if topic not in infos or number >= len(infos[topic].replicas):
                return None
            for broker in infos[topic].replicas[number]:
                ahead, at_s = self._ahead.get(broker, (0.0, float("-inf")))
                if now_s - at_s > _COUNTS_FOR_S:
                    return None
                ahead -= _DRIFT_MS + (now_s - at_s) * _DRIFT_MS_A_SECOND
                slowest = ahead if slowest is None else min(slowest, ahead)
        return slowest
