"""A definition's ladder without a log: messages in, decisions out, state and memory in dicts."""

from __future__ import annotations

from typing import Any

from placet.processors.address import Place, partition_of
from placet.processors.judge import Verdict, consequences, judge
from placet.processors.ladder import Times
from placet.processors.machine import compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Coordinates, Decision
from placet.schemas.definition.model import parse_definition
from placet.schemas.memory import Memory
from placet.schemas.messages import Kind, Message
from placet.schemas.state import UNSEEN, EntityState

__all__ = ["NOW", "Bench", "proposal", "signal"]

NOW = 1_000_000_000
PARTITIONS = 3


def signal(name: str, payload: dict[str, Any] | None = None, **given: Any) -> Message:
    """A signal about order-1 that happened just now."""
    values = {"input_id": "s-1", "entity_id": "order-1", "event_time": NOW, "issued_at": NOW, "proposer": "shop"}
    return Message(Kind.SIGNAL, name, payload=payload or {}, **{**values, **given})


def proposal(name: str, payload: dict[str, Any] | None = None, **given: Any) -> Message:
    """A proposal about order-1, issued just now, based on version 1 of whatever incarnation."""
    issued_at = given.pop("issued_at", NOW)
    values = {"input_id": "p-1", "entity_id": "order-1", "base_version": 1, "proposer": "ann"}
    return Message(
        Kind.PROPOSAL, name, payload=payload or {}, event_time=issued_at, issued_at=issued_at, **{**values, **given}
    )


class Bench:
    """Judges messages one after the other, as a task does, at one place in log time."""

    def __init__(self, text: str) -> None:
        definition = parse_definition(text)
        self.machine, self.codec = compile_machine(definition), Codec(definition)
        self.states: dict[str, EntityState] = {}
        self.memories: dict[tuple[Kind, str, str], Memory] = {}

    def state(self, entity_id: str) -> EntityState:
        return self.states.get(entity_id, UNSEEN)

    def memory(self, kind: Kind, entity_id: str, dedup_key: str) -> Memory | None:
        return self.memories.get((kind, entity_id, dedup_key))

    def judge(self, message: Message, *, at: int = NOW, decided_at: int | None = None, **place: Any) -> Decision:
        """Judge a message, or other bytes in its place, at a log time; what is accepted is kept."""
        value = place["value"] if "value" in place else self.codec.encode_message(message)
        key = place.get("key", message.entity_id.encode())
        home = partition_of(key or b"", PARTITIONS)
        decided_at = at if decided_at is None else decided_at
        judged = judge(
            Rules(self.machine, self.codec), self, message.kind, key, value,
            Place(place.get("partition", home), PARTITIONS), Times(at, decided_at),
        )  # fmt: skip
        self._keep(judged, at)
        return judged.decision

    def _keep(self, judged: Verdict, at: int) -> None:
        decision = judged.decision
        if judged.after is not judged.before:
            self.states[decision.entity_id] = judged.after
        for entry in consequences(judged, Coordinates("topic", 0, 0, at, at, 1, 1, 0, b"", 0)):
            if entry.memory is not None:
                self.memories[decision.kind, decision.entity_id, decision.dedup_key] = entry.memory
