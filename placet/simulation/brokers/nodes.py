"""What a cluster is made of: brokers, and topics whose partitions they lead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from placet.simulation.brokers.log import PartitionLog

__all__ = ["LeaderView", "Node", "Replicas", "Topic"]


class LeaderView(NamedTuple):
    """Offsets of a partition, as a leader of it knows them."""

    start: int
    high_watermark: int
    last_stable_offset: int
    newest: int


class Node:
    """A broker.

    Attributes:
        up: whether its process runs.
        silent: whether it runs, but does nothing and says nothing.
        views: what it led when it was cut off from the other brokers, which it goes on to believe.
        skew_ns: how far its clock is ahead.
        generation: counts its starts.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.up = True
        self.silent = False
        self.views: dict[tuple[str, int], LeaderView] = {}
        self.skew_ns = 0
        self.generation = 0
        self.held: list[Callable[[], None]] = []
        self.in_flight: dict[Any, None] = {}


class Replicas:
    """A partition: its log, who leads it (-1: nobody), and the replicas in sync.

    Attributes:
        least: how many must be in sync for a write, `min.insync.replicas`.
    """

    def __init__(self, topic: str, number: int, replicas: tuple[int, ...], least: int = 1) -> None:
        self.least = min(least, len(replicas))
        self.log = PartitionLog(topic, number)
        self.leader = replicas[0]
        self.replicas = replicas
        self.in_sync = set(replicas)
        self.replicating = False

    def view(self) -> LeaderView:
        """Return the offsets of now."""
        log = self.log
        return LeaderView(log.start, log.high_watermark, log.last_stable_offset, log.newest())

    @property
    def takes_writes(self) -> bool:
        """Tell whether enough replicas are in sync."""
        return len(self.in_sync) >= self.least

    def leave(self, number: int) -> None:
        """Go on without a replica. The last one keeps its place, for it has all that there is."""
        if self.in_sync != {number}:
            self.in_sync.discard(number)


class Topic:
    """A topic. One that is made anew has another id."""

    def __init__(self, name: str, topic_id: str, partitions: list[Replicas], configs: dict[str, str]) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partitions = partitions
        self.configs = configs
