"""What a cluster tells of itself: its brokers, its topics, its clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["ClockReading", "Cluster", "TopicInfo", "configs_of", "topic_info"]


class Cluster(NamedTuple):
    """A cluster as one of its brokers describes it: broker ids with their `host:port`."""

    cluster_id: str
    brokers: dict[int, str]


class TopicInfo(NamedTuple):
    """One topic as it is. `replication_factor` is the smallest of its partitions.

    Attributes:
        topic_id: Kafka's own id: a topic that was deleted and made anew has another one.
        configs: every setting, with the broker's defaults where the topic has none of its own.
        leaderless: how many partitions have no leader.
        under_replicated: how many partitions have fewer replicas in sync than they should.
        leaders: the broker that leads each partition; -1 where none does.
        replicas: the brokers that may lead each partition.
    """

    topic_id: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]
    leaderless: int = 0
    under_replicated: int = 0
    leaders: tuple[int, ...] = ()
    replicas: tuple[tuple[int, ...], ...] = ()


class ClockReading(NamedTuple):
    """How far the broker's clock is ahead of ours, in ms, and how wrong that may be."""

    ahead_ms: float
    uncertainty_ms: float


def configs_of(entries: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that the client tells; what is secret or unset is left out."""
    return {name: entry.value for name, entry in entries.items() if entry.value is not None}


def topic_info(topic_id: object, partitions: Sequence[Any], configs: dict[str, str]) -> TopicInfo:
    """Sum up what the client says of a topic's partitions."""
    partitions = sorted(partitions, key=lambda partition: partition.id)
    leaders = tuple(-1 if partition.leader is None else partition.leader.id for partition in partitions)
    return TopicInfo(
        topic_id=str(topic_id),
        partitions=len(partitions),
        replication_factor=min((len(partition.replicas) for partition in partitions), default=0),
        configs=configs,
        leaderless=sum(leader < 0 for leader in leaders),
        under_replicated=sum(len(partition.isr) < len(partition.replicas) for partition in partitions),
        leaders=leaders,
        replicas=tuple(tuple(replica.id for replica in partition.replicas) for partition in partitions),
    )
