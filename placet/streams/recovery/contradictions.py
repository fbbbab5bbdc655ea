"""What speaks against a topic, in words: it is another one, or it lost what was to stay. Restores ask, and the loop."""

from __future__ import annotations

from typing import Final

from placet.streams.records import TopicPartition

__all__ = ["begins_later", "ends_before_the_rules", "other_partitions", "was_deleted", "was_made_anew"]

_BEGIN_ANEW: Final = "begin anew under another --app, with a copy of the changelog"


def was_made_anew(topic: str, topic_id: str | None, known_id: str, who: str) -> str:
    """Say that a topic is another one of the same name; `who` knows the id of the one before."""
    return (
        f"{topic} was created anew: id {topic_id}, {who} knows {known_id}. What the one before held is gone: "
        f"{_BEGIN_ANEW}"
    )


def was_deleted(topic: str) -> str:
    """Say that there is no such topic any more."""
    return f"{topic} is gone: no broker knows it any more. What it held is gone with it: {_BEGIN_ANEW}"


def other_partitions(what: str, partitions: int, known: int, who: str) -> str:
    """Say that there are other partitions than `who` knows, so that keys have other owners."""
    return (
        f"{what} {partitions} partitions, {who} knows {known}: keys have moved to other owners, and partitions "
        f"can't be taken away: {_BEGIN_ANEW}"
    )


def begins_later(partition: TopicPartition, start: int) -> str:
    """Say that a topic of which the first records must stay has lost them."""
    return (
        f"{partition.topic} partition {partition.partition} begins at offset {start}: retention or somebody removed "
        "what lay before it, and nobody can restore all states without it. Look at the topic's cleanup.policy (it must "
        f"be compact); {_BEGIN_ANEW}"
    )


def ends_before_the_rules(topic: str, end: int, position: int) -> str:
    """Say that rules by which was decided are not on the control topic any more."""
    return (
        f"{topic} ends at {end}, and rules were read up to {position}: was it cut, or made anew? Restore it with what "
        f"it held, or {_BEGIN_ANEW}"
    )
