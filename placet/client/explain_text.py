"""What each reason compared with what: one small function for each, in a table. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from placet.client.armed import due_of
from placet.client.past import iso, shown
from placet.client.snapshot import Snapshot
from placet.processors.dedup import CLOCK_AHEAD_MAX_MS
from placet.schemas.codec.codec import Remarks
from placet.schemas.decision import OF_THE_CONTRACT, REASONS, Coordinates, Decision, Reason, Retry
from placet.schemas.definition.diff import Difference, differences
from placet.schemas.definition.field_types import Field
from placet.schemas.definition.grammar import ProposalRule, SignalRule, written_ms
from placet.schemas.definition.model import Definition, TimerRule
from placet.schemas.messages import Kind, Message
from placet.schemas.state import EVERY_FIELD

__all__ = ["Case", "Compared", "compared", "detail_of", "retry_of", "todo_of"]

_WATCHED = {"exact": "any change counts", "none": "no change counts"}
_NAMES = re.compile(r"\b(payload|state)\.([A-Za-z_]\w*)")
_TIME = re.compile(r"(?<![\w.-])\d{12,14}(?![\w.]| ms)")
_TIME_OF_WINDOW = re.compile(r"(is kept since |; not before )(\d{1,15})(?=; not before |$)")
"""Windows may add up to numbers that look like times: those that are times are named."""
_OF_TIMES = (Reason.EXPIRED, Reason.STATE_TOO_OLD, Reason.STALE, Reason.SUPERSEDED)
"""Reasons whose details name times, in ms; others may repeat a sender's numbers."""
_FOR_PROPOSERS = (Reason.ILLEGAL_TRANSITION, Reason.GUARD_FAILED, Reason.INVARIANT_VIOLATED)
"""Reasons that a timer has too, and whose advice is to propose anew."""


class Case(NamedTuple):
    """A decision and all that is known about it. `message` and `rules` are None if they are no longer on the log.

    `remarks` are the proposer's texts for people; `history` has the states of the entity that are on the log;
    `in_force` are the rules in force now, None where they can't be read here.
    """

    decision: Decision
    at: Coordinates
    message: Message | None
    rules: Definition | None
    remarks: Remarks = Remarks()
    history: Sequence[Snapshot] = ()
    in_force: Definition | None = None

    @property
    def changed(self) -> list[Difference]:
        """What the rules in force now do otherwise than those of the decision; nothing where one is not known."""
        return [] if self.rules is None or self.in_force is None else differences(self.rules, self.in_force)

    @property
    def rule(self) -> SignalRule | ProposalRule | TimerRule | None:
        """The rule of the input's name."""
        rules, name = self.rules, self.decision.name
        if rules is None:
            return None
        match self.decision.kind:
            case Kind.SIGNAL:
                return rules.signals.get(name)
            case Kind.PROPOSAL:
                return rules.proposals.get(name)
            case Kind.TIMER:
                return rules.timers.get(name)

    @property
    def due(self) -> int | None:
        """When the timer was due, ms since the epoch; None of an input, and where no state on the log tells it."""
        decision = self.decision
        if decision.timer is None:
            return None
        for snapshot in self.history:
            change = snapshot.change
            if change is not None and change.kind is Kind.TIMER and change.input_id == decision.input_id:
                return change.event_time
        return due_of(self.history, decision.name, *decision.timer)

    @property
    def armed_by(self) -> Snapshot | None:
        """The state whose change armed the timer; None of an input, and where it is no longer on the log."""
        timer = self.decision.timer
        held = [] if timer is None else [one for one in self.history if (one.incarnation, one.version) == timer]
        return held[-1] if held else None

    @property
    def fields(self) -> Mapping[str, Field]:
        """The fields of the state; none if the rules are no longer on the log."""
        return {} if self.rules is None else self.rules.fields

    @property
    def counted(self) -> list[Snapshot]:
        """The states since the entity's version began to count, lives before a deletion included."""
        held = [snapshot for snapshot in self.history if snapshot.incarnation <= self.decision.incarnation]
        begins = [at for at in range(1, len(held)) if held[at].version <= held[at - 1].version]  # it was forgotten
        return held[begins[-1] :] if begins else held


class Compared(NamedTuple):
    """One comparison: the value that the input gave, and the value that was found."""

    what: str
    given: str
    found: str


def compared(case: Case) -> list[Compared]:
    """Return what was compared with what on the rung that decided."""
    return _COMPARED.get(case.decision.reason, _as_detail)(case)


def detail_of(decision: Decision) -> str:
    """Return a decision's detail as a person reads it: its times as ISO 8601."""
    if decision.reason is Reason.RATE_LIMITED:
        return _TIME_OF_WINDOW.sub(lambda found: f"{found[1]}{iso(int(found[2]))}", decision.detail)
    if decision.reason not in _OF_TIMES:
        return decision.detail
    return _TIME.sub(lambda found: iso(int(found[0])), decision.detail)


def todo_of(decision: Decision) -> str:
    """Return what to do about a decision. A wrong id is the likeliest reason why nothing is known of an entity."""
    if decision.timer is not None and decision.reason in _FOR_PROPOSERS:
        return "Nothing: a timer fires once. It is armed anew when the entity comes to the status again."
    if decision.by_other_rules and decision.reason in OF_THE_CONTRACT:
        return "The gate went by other rules than those in force: later it may fit."
    if decision.reason is Reason.ILLEGAL_TRANSITION and decision.version_before == 0:
        return f"No entity `{decision.entity_id}` is known: is the id right?"
    return REASONS[decision.reason].todo


def retry_of(decision: Decision) -> Retry:
    """Whether sending again can help: nobody sends a timer."""
    return Retry.NEVER if decision.timer is not None else decision.retry


def _as_detail(case: Case) -> list[Compared]:
    detail = detail_of(case.decision)
    return [Compared("finding", "", detail)] if detail else []


def _base(case: Case) -> list[Compared]:
    decision, message = case.decision, case.message
    rows = []
    if message is not None:
        rows.append(
            Compared("version", f"based on {message.base_version}", f"the state was at {decision.version_before}")
        )
        if decision.reason is Reason.STALE and message.base_incarnation not in (None, decision.incarnation):
            rows.append(Compared("life", f"based on {_life(message.base_incarnation)}", _life(decision.incarnation)))
        reborn = _reborn(case)
        if decision.reason is Reason.STALE and reborn > message.base_version:
            rows.append(Compared("life", "based on an earlier one", f"deleted, and created again as version {reborn}"))
    else:
        rows += _as_detail(case)
    fence = getattr(case.rule, "fence", None)
    if fence is not None:
        name = fence if isinstance(fence, str) else ", ".join(fence)
        rows.append(Compared("fence", name, _WATCHED.get(name, f"a change of {name} counts")))
    return rows


def _reborn(case: Case) -> int:
    """The version that created the entity again, as far as the log tells; 0 where it was never deleted."""
    before = next((found for found in case.counted if found.version == case.decision.version_before), None)
    return 0 if before is None else before.state.field_versions.get(EVERY_FIELD, 0)


def _life(incarnation: int | None) -> str:
    return f"the one that began {iso(incarnation)}" if incarnation else "none"


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


def _state_age(case: Case) -> list[Compared]:
    message, bound_ms = case.message, getattr(case.rule, "max_state_age_ms", None)
    if message is None or message.read_at is None or bound_ms is None:
        return _as_detail(case)
    decided_at = case.at.decided_at
    found = f"decided at {iso(decided_at)}, {decided_at - message.read_at} ms later; at most {written_ms(bound_ms)}"
    return [Compared("read_at", iso(message.read_at), found)]


def _status(case: Case) -> list[Compared]:
    rules, rule = case.rules, case.rule
    if rules is None or rule is None:
        return _as_detail(case)
    in_time = [transition for transition in rule.transitions if not transition.late]
    legal = dict.fromkeys(status for transition in in_time for status in rules.statuses_from(transition))
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
        Compared(
            "event_time", iso(message.event_time), f"{detail_of(case.decision)}; the newer one is {first.input_id}"
        )
    ]


def _values(case: Case) -> list[Compared]:
    """The expressions, and the values of what they name: those before the input, as a refusal changes nothing."""
    rows = [Compared("expression", "", case.decision.detail)]
    before = next((found for found in case.counted if found.version == case.decision.version_before), None)
    payload = {} if case.rule is None else case.rule.payload
    for kind, name in dict.fromkeys(_NAMES.findall(_expressions(case))):
        if kind == "payload" and case.message is not None:
            given = shown(case.message.payload.get(name), payload.get(name))
            rows.append(Compared(f"payload.{name}", given, ""))
        elif kind == "state" and before is not None:
            value = shown(before.fields.get(name), case.fields.get(name))
            rows.append(Compared(f"state.{name}", "", f"{value} at version {before.version}"))
    return rows


def _expressions(case: Case) -> str:
    """The texts that decided: the guards of the detail, or of an invariant that it names its expression."""
    detail = case.decision.detail
    invariants = {} if case.rules is None else case.rules.invariants
    return " ".join([detail, *(text for name, text in invariants.items() if f"`{name}`" in detail)])


_COMPARED: dict[Reason, Callable[[Case], list[Compared]]] = {
    Reason.NONE: _accepted,
    Reason.REPEATED: _repeat,
    Reason.DEDUP_KEY_REUSED: _repeat,
    Reason.TOO_LATE: _issued,
    Reason.CLOCK_AHEAD: _issued,
    Reason.EXPIRED: _validity,
    Reason.STATE_TOO_OLD: _state_age,
    Reason.ILLEGAL_TRANSITION: _status,
    Reason.IGNORED: _status,
    Reason.STALE: _base,
    Reason.VERSION_AHEAD: _base,
    Reason.SUPERSEDED: _newer,
    Reason.GUARD_FAILED: _values,
    Reason.GUARD_ERROR: _values,
    Reason.INVARIANT_VIOLATED: _values,
}
