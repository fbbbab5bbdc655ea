"""Which topics there are: names, and what each must be like.

All topics of one entity type have the same number of partitions and the same key, so that one task owns partition n of
each. All of them use `LogAppendTime`: with producers' timestamps retention and compaction lag would obey the producer.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["EntityTopics", "TaskId", "control_topic", "dead_letters_topic", "entity_topics", "gates_topic"]


class TaskId(NamedTuple):
    """One task: an entity type and a partition."""

    entity: str
    partition: int

    def __str__(self) -> str:
        return f"{self.entity}-{self.partition}"


class EntityTopics(NamedTuple):
    """The topics of one entity type, by role."""

    signals: str
    proposals: str
    changelog: str
    decisions: str
    ledger: str

    @property
    def inputs(self) -> tuple[str, str]:
        """The topics that the gate consumes."""
        return (self.signals, self.proposals)


def entity_topics(app: str, entity: str) -> EntityTopics:
    """Return the topic names `<app>.<entity>.<role>`."""
    return EntityTopics(*(f"{app}.{entity}.{role}" for role in EntityTopics._fields))


def control_topic(app: str) -> str:
    """Return the name of the topic of rules: definitions under their digest, one partition, compacted."""
    return f"{app}.control"


def gates_topic(app: str) -> str:
    """Return the name of the topic on which gates are asked what they can run, and answer: one partition."""
    return f"{app}.gates"


def dead_letters_topic(app: str) -> str:
    """Return the name of the topic that keeps the bytes of what did not decode."""
    return f"{app}.dead-letters"
