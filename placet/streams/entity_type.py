"""What belongs to one entity type while the gate runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from placet.processors.rules import Rules
from placet.streams.topology import EntityTopics

__all__ = ["EntityType"]


@dataclass(frozen=True, slots=True)
class EntityType:
    """Its rules, and its topics as the cluster had them when the gate began.

    Attributes:
        topic_ids: of its topics, and of the control topic.
    """

    app: str
    rules: Rules
    topics: EntityTopics
    topic_ids: Mapping[str, str]
    partitions: int
