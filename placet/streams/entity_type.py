"""What belongs to one entity type while the gate runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from placet.processors.machine import Machine
from placet.schemas.codec.codec import Codec
from placet.streams.topology import EntityTopics

__all__ = ["EntityType"]


@dataclass(frozen=True, slots=True)
class EntityType:
    """A compiled definition with its codec, and the topics as the cluster has them now."""

    app: str
    machine: Machine
    codec: Codec
    topics: EntityTopics
    topic_ids: Mapping[str, str]
    partitions: int
