"""What makes a proposal stale: read from the table that runs, so that an author sees what a fence means."""

from __future__ import annotations

from collections.abc import Iterator

from placet.processors.machine import Fence, InputRule, Machine, Transition
from placet.schemas.messages import Kind
from placet.schemas.state import ABSENT

__all__ = ["made_stale_by"]


def made_stale_by(machine: Machine, name: str) -> list[str]:
    """The inputs and timers whose acceptance can make a proposal stale, in the order of the definition.

    Fence exact: whatever changes the entity in a status from which the proposal is legal. Fence on fields: whatever
    sets one of them, in any status. Fence none: nothing.

    Args:
        machine: the compiled definition.
        name: the proposal's name.
    """
    rule = machine.rules[Kind.PROPOSAL, name]
    if rule.fence is Fence.NONE:
        return []
    legal = {status for kind, one, status in machine.table if (kind, one) == (Kind.PROPOSAL, name)}
    return [
        other
        for kind, other in machine.rules
        if any(_conflicts(rule, transition, status, legal) for status, transition in _of(machine, kind, other))
    ]


def _of(machine: Machine, kind: Kind, name: str) -> Iterator[tuple[str, Transition]]:
    for (one_kind, one, status), transitions in machine.table.items():
        if (one_kind, one) == (kind, name):
            for transition in transitions:
                yield status, transition


def _conflicts(rule: InputRule, transition: Transition, status: str, legal: set[str]) -> bool:
    if status == ABSENT and ABSENT not in legal:
        return False  # a proposal that is based on nothing has no business here
    moves = transition.target not in (None, status)
    if rule.fence is Fence.EXACT:
        return status in legal and (moves or bool(transition.assignments))
    if moves and ("status" in rule.fence_fields or transition.target == ABSENT):
        return True  # deletion puts every field back to its default
    return any(field in rule.fence_fields for field, _ in transition.assignments)
