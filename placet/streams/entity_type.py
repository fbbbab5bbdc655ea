"""What belongs to one entity type while the gate runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from placet.processors.rules import Rules
from placet.streams.topology import EntityTopics

__all__ = ["EntityType"]


@dataclass(frozen=True, slots=True)
class EntityType:
    """Its rules, and its topics as the cluster has them now."""

    app: str
    rules: Rules
    topics: EntityTopics
    topic_ids: Mapping[str, str]
    partitions: int

    def at(self, position: int) -> EntityType:
        """Return the same, with the control topic read further."""
        return replace(self, rules=self.rules.at(position))
