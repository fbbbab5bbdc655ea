"""Explains a decision: the rung that decided, the compared values, the changes that came first, what helps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from placet.client.explain_text import Case, Compared, compared, retry_of, todo_of
from placet.client.past import GONE, PastVersion, cause_of, differences, iso, steps
from placet.schemas.decision import REASONS, Outcome, Reason, Retry
from placet.schemas.state import ABSENT

__all__ = ["RUNGS", "Case", "Compared", "Explanation", "Faster", "differences", "explain", "iso"]

RUNGS: dict[int, str] = {
    1: "Is it readable, in its place, and as its contract says?",
    2: "Was this occasion applied before?",
    3: "Was it issued within the horizon, and not in the future?",
    4: "Is it still valid?",
    5: "May the proposer propose this?",
    6: "Is there room for it?",
    7: "Is there a transition of this name from the entity's status?",
    8: "Is what it was based on still so?",
    9: "Has no newer fact of the same name been applied?",
    10: "Does a guard hold, and the new state keep its invariants and its size?",
    11: "Does a person have to agree?",
}
"""The ladder's questions, in their order. A reason's number begins with its rung's."""


class Faster(NamedTuple):
    """A change that a decision is about: one that the proposal did not know, the one it repeats, or its own change.

    `fields` are the fields that it set, as (before, after). If the change is no longer on the log, `cause` says so.
    """

    version: int
    cause: str
    who: str
    at: str
    fields: Mapping[str, tuple[Any, Any]]


class Explanation(NamedTuple):
    """The answer of `placet explain`."""

    rung: int
    question: str
    meaning: str
    compared: list[Compared]
    conflicts: list[Faster]
    retry: Retry
    advice: str


def explain(case: Case) -> Explanation:
    """Explain a decision."""
    decision = case.decision
    text = REASONS[decision.reason]
    rung = int(decision.reason) // 100
    question = RUNGS.get(rung, "Every rung was passed.")
    retry = retry_of(decision)
    return Explanation(rung, question, text.meaning, compared(case), _commits(case), retry, todo_of(decision))


def _commits(case: Case) -> list[Faster]:
    """Return the changes that the decision is about, in order, also those that are no longer on the log."""
    decision = case.decision
    initial = {} if case.rules is None else {name: field.default for name, field in case.rules.fields.items()}
    held = [_faster(step) for step in steps(case.counted, initial) if _counted(case, step)]
    known = {faster.version for faster in held}
    gone = [
        Faster(conflict.version, str(GONE.value), "", "", dict.fromkeys(conflict.fields, (GONE, GONE)))
        for conflict in decision.conflicts
        if conflict.version not in known
    ]
    return sorted(gone + held, key=lambda faster: faster.version)


def _counted(case: Case, step: PastVersion) -> bool:
    """Tell whether a change is what the decision was about."""
    decision, version, change = case.decision, step.after.version, step.after.change
    if decision.outcome is Outcome.ACCEPTED:
        return decision.changed and version == decision.version_after
    if decision.first is not None:
        return change is not None and change.input_id == decision.first.input_id
    if decision.reason is not Reason.STALE:
        return False
    if version in {conflict.version for conflict in decision.conflicts}:
        return True
    # A conflict names the version that set a field last; one before it was not known to the proposer either, nor was a
    # deletion, which ends every field.
    base = decision.version_before if case.message is None else case.message.base_version
    watched = {field for conflict in decision.conflicts for field in conflict.fields}
    counts = step.after.status == ABSENT or not watched.isdisjoint(step.changes)
    return counts and base < version <= decision.version_before


def _faster(step: PastVersion) -> Faster:
    change = step.after.change
    if change is None:
        return Faster(step.after.version, "forgotten", "", "", {})
    return Faster(step.after.version, cause_of(change), change.proposer, iso(change.decided_at), step.changes)
