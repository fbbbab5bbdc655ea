"""Why a decision is what it is: the rung that decided, what it compared, who was faster, and what helps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from placet.client.snapshot import Snapshot
from placet.processors.decide import CLOCK_AHEAD_MAX_MS
from placet.schemas.decision import REASONS, Coordinates, Decision, Outcome, Reason, Retry
from placet.schemas.definition import Definition
from placet.schemas.definition_grammar import ProposalRule, SignalRule
from placet.schemas.messages import Kind, Message

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


class Case(NamedTuple):
    """A decision and all that is known about it. `message` and `rules` are None where the log has let go of them."""

    decision: Decision
    at: Coordinates
    message: Message | None
    rules: Definition | None

    @property
    def rule(self) -> SignalRule | ProposalRule | None:
        """The rule of the input's name."""
        if self.rules is None:
            return None
        section = self.rules.signals if self.decision.kind is Kind.SIGNAL else self.rules.proposals
        return section.get(self.decision.name)


class Compared(NamedTuple):
    """One thing that was looked at: what the input said, and what it met."""

    what: str
    given: str
    found: str


class Faster(NamedTuple):
    """A committed change that the input did not know. `fields` has what it set, as (before, after) where known."""

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


def explain(case: Case, history: Sequence[Snapshot]) -> Explanation:
    """Explain a decision.

    Args:
        case: the decision.
        history: the entity's states, as far as the log holds them.
    """
    decision = case.decision
    text = REASONS[decision.reason]
    rung = int(decision.reason) // 100
    question = RUNGS.get(rung, "Every rung was passed.")
    compared = _COMPARED.get(decision.reason, _as_detail)(case)
    versions = {conflict.version for conflict in decision.conflicts}
    if decision.outcome is Outcome.ACCEPTED and decision.changed:
        versions = {decision.version_after}
    faster = [_faster(snapshot, before) for snapshot, before in _pairs(history) if snapshot.version in versions]
    return Explanation(rung, question, text.meaning, compared, faster, decision.retry, text.todo)


def differences(before: Snapshot | None, after: Snapshot) -> dict[str, tuple[Any, Any]]:
    """Return what a change set, as (before, after); before is None where the log does not hold the state before."""
    state = after.state
    set_here = [name for name, version in state.field_versions.items() if version == state.version]
    if state.version == 1:
        before = Snapshot(after.entity_id)
    known = before is not None and before.version == after.version - 1
    return {
        name: (_value(before, name) if known and before is not None else None, _value(after, name))
        for name in sorted(set_here)
    }


def iso(time_ms: int) -> str:
    """Return a time as ISO 8601 in UTC, with milliseconds."""
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a time that a sender made up
        return str(time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _value(snapshot: Snapshot, name: str) -> Any:
    return snapshot.status if name == "status" else snapshot.fields.get(name)


def _pairs(history: Sequence[Snapshot]) -> list[tuple[Snapshot, Snapshot | None]]:
    return list(zip(history, [None, *history], strict=False))


def _faster(after: Snapshot, before: Snapshot | None) -> Faster:
    change = after.change
    if change is None:
        return Faster(after.version, "forgotten", "", "", {})
    cause = f"{change.kind.name.lower()} {change.name} ({change.input_id})"
    return Faster(after.version, cause, change.proposer, iso(change.decided_at), differences(before, after))


# What each reason compared --------------------------------------------------------------------------------------------


def _as_detail(case: Case) -> list[Compared]:
    return [Compared("finding", "", case.decision.detail)] if case.decision.detail else []


def _base(case: Case) -> list[Compared]:
    decision, message = case.decision, case.message
    rows = []
    if message is not None:
        rows.append(
            Compared("version", f"based on {message.base_version}", f"the state was at {decision.version_before}")
        )
        if message.base_incarnation not in (None, decision.incarnation):
            rows.append(Compared("incarnation", str(message.base_incarnation), str(decision.incarnation)))
    else:
        rows += _as_detail(case)
    fence = getattr(case.rule, "fence", None)
    if fence is not None:
        watched = "any change counts" if fence == "exact" else f"a change of {', '.join(fence)} counts"
        rows.append(Compared("fence", fence if isinstance(fence, str) else ", ".join(fence), watched))
    return rows


def _accepted(case: Case) -> list[Compared]:
    return _base(case) if case.decision.kind is Kind.PROPOSAL else []


def _repeat(case: Case) -> list[Compared]:
    decision, first = case.decision, case.decision.first
    met = "an input before it" if first is None else f"{first.input_id}, applied at version {first.version}"
    key = decision.dedup_key or f"`{decision.name}` counts once"
    same = "the same name and payload" if decision.reason is Reason.REPEATED else "another name or payload"
    return [Compared("occasion", key, met), Compared("content", "", same)]


def _issued(case: Case) -> list[Compared]:
    at, message = case.at, case.message
    if message is None or case.rules is None:
        return _as_detail(case)
    if case.decision.reason is Reason.TOO_LATE:
        return [
            Compared("issued_at", iso(message.issued_at), f"at the earliest {iso(at.log_time - case.rules.horizon_ms)}")
        ]
    given = max(message.issued_at, message.event_time)
    return [Compared("time", iso(given), f"at the latest {iso(at.log_time + CLOCK_AHEAD_MAX_MS)}")]


def _validity(case: Case) -> list[Compared]:
    message = case.message
    if message is None:
        return _as_detail(case)
    bound_ms = getattr(case.rule, "valid_for_ms", None)
    bounds = [message.valid_until, None if bound_ms is None else message.issued_at + bound_ms]
    until = min((bound for bound in bounds if bound is not None), default=0)
    return [Compared("valid until", iso(until), f"decided at {iso(case.at.decided_at)}")]


def _status(case: Case) -> list[Compared]:
    rules, rule = case.rules, case.rule
    if rules is None or rule is None:
        return _as_detail(case)
    legal = dict.fromkeys(status for transition in rule.transitions for status in rules.statuses_from(transition))
    return [
        Compared(
            "status", f"`{case.decision.name}` leaves {' or '.join(legal)}", f"it was {case.decision.status_before}"
        )
    ]


def _newer(case: Case) -> list[Compared]:
    first, message = case.decision.first, case.message
    if first is None or message is None:
        return _as_detail(case)
    return [
        Compared("event_time", iso(message.event_time), f"{case.decision.detail}; the newer one is {first.input_id}")
    ]


_COMPARED: dict[Reason, Callable[[Case], list[Compared]]] = {
    Reason.NONE: _accepted,
    Reason.REPEATED: _repeat,
    Reason.DEDUP_KEY_REUSED: _repeat,
    Reason.TOO_LATE: _issued,
    Reason.CLOCK_AHEAD: _issued,
    Reason.EXPIRED: _validity,
    Reason.ILLEGAL_TRANSITION: _status,
    Reason.STALE: _base,
    Reason.VERSION_AHEAD: _base,
    Reason.SUPERSEDED: _newer,
}
