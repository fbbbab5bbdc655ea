"""Judges an input by a definition, as docs/concepts.md and docs/refusals.md describe it.

Written without a look at the gate's code.

Not judged:
- an expression with more in it than names, literals, comparisons, `+ - *`, `&&`, `||`, `!`, `in` and lists; one on
  which Python raises; a definition's `python:` functions. Then ACCEPTED and every reason of rung 10 pass;
- the size of a state (`STATE_TOO_LARGE`), symbols and other limits of a payload's values except the input's id;
- more than 1,000 inputs or 64 proposers in a window, and sums of more than 64 bits;
- the words in `detail`, but for the time in the end of that of a RATE_LIMITED one.

Where the docs were silent, what the gate's output shows was taken over: `observed` marks these places.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any, Final, NamedTuple, TypeAlias

from tests.model.second_definition import BEYOND, Rule, Rules, Transition, Window
from tests.model.second_log import CONTRACTS, decoded, partition_of

__all__ = ["AHEAD_MS", "NEVER_SEEN", "REASONS", "Armed", "Entity", "Judge", "Memory", "Message", "Verdict"]

# reason -> number, retry, outcome: docs/reasons.md. Only what this version gives.
REASONS: Final[dict[str, tuple[int, str, str]]] = {
    "NONE": (0, "NEVER", "ACCEPTED"),
    "UNDECODABLE": (101, "NEVER", "REFUSED"),
    "UNKNOWN_SCHEMA": (102, "LATER", "REFUSED"),
    "WRONG_PARTITION": (103, "NEVER", "REFUSED"),
    "KEY_MISMATCH": (104, "NEVER", "REFUSED"),
    "INVALID_PAYLOAD": (105, "NEVER", "REFUSED"),
    "REPEATED": (201, "NEVER", "DUPLICATE"),
    "DEDUP_KEY_REUSED": (202, "NEVER", "REFUSED"),
    "TOO_LATE": (301, "RECOMPUTE", "REFUSED"),
    "CLOCK_AHEAD": (302, "LATER", "REFUSED"),
    "EXPIRED": (401, "RECOMPUTE", "REFUSED"),
    "STATE_TOO_OLD": (402, "RECOMPUTE", "REFUSED"),
    "RATE_LIMITED": (601, "LATER", "REFUSED"),
    "ILLEGAL_TRANSITION": (701, "RECOMPUTE", "REFUSED"),
    "IGNORED": (702, "NEVER", "REFUSED"),
    "STALE": (801, "RECOMPUTE", "REFUSED"),
    "VERSION_AHEAD": (802, "RECOMPUTE", "REFUSED"),
    "SUPERSEDED": (901, "NEVER", "REFUSED"),
    "GUARD_FAILED": (1001, "RECOMPUTE", "REFUSED"),
    "GUARD_ERROR": (1002, "NEVER", "REFUSED"),
    "INVARIANT_VIOLATED": (1003, "RECOMPUTE", "REFUSED"),
    "STATE_TOO_LARGE": (1004, "NEVER", "REFUSED"),
}
AHEAD_MS: Final = 60_000  # observed: memory outlasts the horizon by as much as `issued_at` may lie ahead
_SOONEST_MS: Final = 1_000  # between what arms a timer and its due time


class _UnjudgedError(Exception):
    """An expression is more than this judge can evaluate."""


Conflicts: TypeAlias = tuple[tuple[int, list[str]], ...]  # versions, and the fields that each was the last to change


class Memory(NamedTuple):
    """What is known of an input that was applied."""

    said: tuple[str, Any]  # name and payload
    input_id: str
    version: int
    log_time: int
    event_time: int


class Armed(NamedTuple):
    """An armed timer: when it is due, and the version that armed it."""

    due: int
    version: int


class Amount(NamedTuple):
    """What one accepted input counts in a window, and as of when."""

    time: int
    amount: int


class Entity(NamedTuple):
    """An entity's state. `last`: the version that last changed each field; `reborn`: that of the newest re-creation."""

    version: int
    incarnation: int
    status: str
    fields: Mapping[str, Any]
    last: Mapping[str, int]
    reborn: int
    applied: Mapping[str, Memory]
    deleted_at: int | None
    armed: Mapping[str, Armed]
    counted: Mapping[tuple[str, str], tuple[Amount, ...]]  # by what windows count, and by proposer, in order


NEVER_SEEN: Final = Entity(0, 0, "absent", {}, {}, 0, {}, None, {}, {})


class Message(NamedTuple):
    """An input that decoded: its columns, and what follows from them. Or a timer that fires, at the time it was due."""

    kind: str
    name: str
    input_id: str
    entity_id: str
    event_time: int
    issued_at: int
    proposer: str
    payload: Any
    columns: Mapping[str, Any]


class Verdict(NamedTuple):
    """What must have been decided. The reason `?` means: anything that rung 10 can say, or NONE."""

    reason: str
    key: str | None = ""  # the dedup key; None: not judged
    first: Memory | None = None
    conflicts: Conflicts = ()
    after: Entity | None = None
    not_before: int | None = None  # of a RATE_LIMITED one; None: waiting does not help


def _value(code: Any, scope: dict[str, Any]) -> Any:
    if code is BEYOND:
        raise _UnjudgedError
    if not isinstance(code, CodeType):
        return code
    try:
        return eval(code, {"__builtins__": {}}, scope)
    except Exception as error:
        raise _UnjudgedError from error


class Judge:
    """Remembers what was applied, and says what must be decided next."""

    def __init__(self, rules: Rules, others: Iterable[Rules] = ()) -> None:
        self.entities: dict[str, Entity] = {}
        self.rules = rules
        self.kept: Mapping[str, Mapping[str, Any]] = {}  # by name, since when the task keeps each window
        self._published = [rules, *others]
        self._memory: dict[tuple[str, str, str], Memory] = {}

    def read(
        self, kind: str, key: bytes | None, value: bytes | None, partition: int, count: int
    ) -> tuple[str, Message | None]:
        """Rung 1: return what is wrong with an input (empty: nothing), and the input if it decodes."""
        forms = [each.schemas[kind] for each in self._published]
        columns = next((found for form in forms if (found := decoded(value, form, named=True)) is not None), None)
        if columns is None:
            return self._unread(value or b""), None
        name, payload = columns["name"], columns["payload"] or ("", None)
        signal = kind == "SIGNAL"
        message = Message(
            kind,
            name,
            input_id=columns["signal_id" if signal else "proposal_id"],
            entity_id=columns["entity_id"],
            event_time=columns["event_time" if signal else "issued_at"],
            issued_at=columns["issued_at"],
            proposer=columns["source" if signal else "proposer"],
            payload=payload[1],
            columns=columns,
        )
        if key is not None and partition_of(key, count) != partition:
            return "WRONG_PARTITION", message
        if key != message.entity_id.encode():
            return "KEY_MISMATCH", message
        rule = self.rules.rules.get((kind, name))
        if rule is None or rule.payload != payload[0] or not 1 <= len(message.input_id) <= 128:
            return "INVALID_PAYLOAD", message
        return "", message

    def _unread(self, value: bytes) -> str:
        ours = [form for each in self._published for form in each.schemas.values()]
        known = [form[0] for form in (*ours, *CONTRACTS.values())]
        registry = value[:1] == b"\0" and len(value) >= 5
        single = value[:2] == b"\xc3\x01" and len(value) >= 10 and value[:10] not in known
        return "UNKNOWN_SCHEMA" if registry or single else "UNDECODABLE"

    def verdict(self, message: Message, log_time: int, decided_at: int) -> Verdict:
        """Climb the ladder of docs/concepts.md from rung 2 on; an input that names no occasion is at rung 1 still."""
        rule = self.rules.rules[message.kind, message.name]
        entity = self.entities.get(message.entity_id, NEVER_SEEN)
        key = _occasion(rule, message)
        if rule.dedup == "key" and not key:
            return Verdict("INVALID_PAYLOAD")
        first = self._first(rule, message, entity, key, log_time)
        if first is not None:
            same = first.said == (message.name, message.payload)
            return Verdict("REPEATED" if same else "DEDUP_KEY_REUSED", key, first)
        if log_time - message.issued_at > self.rules.horizon:
            return Verdict("TOO_LATE", key)
        if max(message.issued_at, message.event_time) - log_time > AHEAD_MS:
            return Verdict("CLOCK_AHEAD", key)
        proposal = message.kind == "PROPOSAL"
        if proposal and any(decided_at > until for until in _ends(rule, message)):
            return Verdict("EXPIRED", key)
        if rule.max_age is not None and _is_too_old(rule.max_age, message, decided_at):
            return Verdict("STATE_TOO_OLD", key)
        limited = self._limited(rule, message, entity, log_time, decided_at)
        if limited is not None:
            return limited._replace(key=key)
        newest = entity.applied.get(message.name)
        late = rule.late and newest is not None and message.event_time < newest.event_time
        rows = rule.table.get(entity.status, [])
        in_time = [each for each in rows if not each.late]
        taken = [each for each in rows if each.late] if late else in_time
        if not taken and not in_time:
            return Verdict("IGNORED" if rule.ignores else "ILLEGAL_TRANSITION", key)
        against = _fence(rule, entity, message.columns) if proposal else None
        if against is not None:
            return Verdict(against[0], key, conflicts=against[1])
        if not taken:
            return Verdict("SUPERSEDED", key, newest)
        try:
            return self._evolve(taken, message, entity, log_time, decided_at)._replace(key=key)
        except _UnjudgedError:
            return Verdict("?", key)

    def fires(self, timer: Message, entity: Entity, log_time: int, decided_at: int) -> Verdict:
        """Climb the two rungs that a timer has: 7 and 10. The entity has the timer armed no more."""
        rule = self.rules.timers.get(timer.name)
        rows = rule.table.get(entity.status) if rule else None
        if not rows:
            return Verdict("ILLEGAL_TRANSITION")
        try:
            return self._evolve(rows, timer, entity, log_time, decided_at)
        except _UnjudgedError:
            return Verdict("?")

    def _first(self, rule: Rule, message: Message, entity: Entity, key: str | None, log_time: int) -> Memory | None:
        """Return the input that was applied for the same occasion, while it is remembered."""
        applied = entity.applied.get(message.name)
        if rule.dedup == "once":
            return applied
        if rule.dedup == "newest":  # observed: the same occasion is the same event time
            return applied if applied is not None and applied.event_time == message.event_time else None
        memory = self._memory.get((message.kind, message.entity_id, key or ""))
        if memory is None or log_time - memory.log_time > self.rules.horizon + AHEAD_MS:
            return None
        return memory

    def _evolve(
        self, rows: list[Transition], message: Message, entity: Entity, log_time: int, decided_at: int
    ) -> Verdict:
        """Rung 10: the first transition whose guard holds; then its new state must keep the invariants."""
        fields = {**self.rules.defaults, **entity.fields}  # those of a newer definition are kept
        scope = self._scope(fields, message, entity, log_time, decided_at)
        for taken in rows:
            if taken.guard is None or _value(taken.guard, scope):
                break
        else:
            return Verdict("GUARD_FAILED")
        new = dict(self.rules.defaults if entity.status == "absent" else fields)
        new.update((name, message.payload[name]) for name in taken.copied)
        for name, code in taken.set_to:
            new[name] = value = _value(code, scope)
            bound = self.rules.bounds.get(name)
            if bound is not None and value is not None and not -bound <= value < bound:
                return Verdict("GUARD_ERROR")
        status = taken.to or entity.status
        if status == "absent":  # observed: the fields get their defaults, and no invariant is asked
            new = dict(self.rules.defaults)
        after = self.moved(entity, status, new, log_time)
        scope |= {"state": new, "status": status, "version": after.version}
        if status != "absent" and not all(_value(each, scope) for each in self.rules.invariants):
            return Verdict("INVARIANT_VIOLATED")
        return Verdict("NONE", after=after)

    def _scope(
        self, fields: Mapping[str, Any], message: Message, entity: Entity, log_time: int, decided_at: int
    ) -> dict[str, Any]:
        windows = self.rules.windows.values()
        return {
            "state": fields, "payload": message.payload, "status": entity.status, "version": entity.version,
            "entity_id": message.entity_id, "event_time": message.event_time, "decided_at": decided_at,
            "proposer": message.proposer,
            "window": {
                each.name: sum(one.amount for one in self._counts(each, message, entity, log_time)) for each in windows
            },
        }  # fmt: skip

    def _begins(self, window: Window, log_time: int) -> int:
        return max(log_time - window.within + 1, self.kept[window.name]["since"])

    def _counts(self, window: Window, message: Message, entity: Entity, log_time: int) -> list[Amount]:
        """Return what a window counts before an input."""
        begin = self._begins(window, log_time)
        return [one for one in entity.counted.get(_place(window, message), ()) if one.time >= begin]

    def _limited(self, rule: Rule, message: Message, entity: Entity, log_time: int, decided_at: int) -> Verdict | None:
        """Rung 6: each limit holds, and its windows were kept for as long as they reach back."""
        for limit in rule.limits:
            read = [self.rules.windows[name] for name in self.rules.windows if name in limit.reads]
            for window in read:
                known_from = self.kept[window.name]["complete_since"] + window.within - 1
                if log_time < known_from and not window.starts_empty:
                    return Verdict("RATE_LIMITED", not_before=known_from)
            fields = {**self.rules.defaults, **entity.fields}
            try:
                holds = _value(limit.holds, self._scope(fields, message, entity, log_time, decided_at))
            except _UnjudgedError:
                return Verdict("?")
            if not holds:
                leaves = [
                    one.time + window.within
                    for window in read
                    for one in self._counts(window, message, entity, log_time)
                ]
                return Verdict("RATE_LIMITED", not_before=min(leaves, default=None))
        return None

    def count(self, message: Message, entity: Entity, log_time: int) -> Entity:
        """Return the entity after an accepted input, or a timer, as its windows have it; the same if none counts it."""
        counted = dict(entity.counted)
        for window in self.rules.windows.values():
            place = _place(window, message)
            if window.input != message.name or counted.get(place) is not entity.counted.get(place):
                continue
            alike = [self.kept[each.name]["since"] for each in self.rules.windows.values() if each.what == window.what]
            held = entity.counted.get(place, ())
            time = max(log_time, *alike, held[-1].time if held else 0)
            amount = 1 if window.field is None else message.payload[window.field]
            counted[place] = (*held, Amount(time, amount))
        return entity._replace(counted=counted) if counted != entity.counted else entity

    def parts(self, entity: Entity, log_time: int) -> list[dict[str, Any]]:
        """Return what windows hold of an entity, as the ledger has it."""
        begins: dict[str, int] = {}
        for window in self.rules.windows.values():
            begin = self._begins(window, log_time)
            begins[window.what] = min(begin, begins.get(window.what, begin))
        held = {
            (what, by): [one for one in amounts if one.time >= begins[what]]
            for (what, by), amounts in sorted(entity.counted.items())
            if what in begins
        }
        return [
            {"what": what, "by": by, "times": [one.time for one in left], "amounts": [one.amount for one in left]}
            for (what, by), left in held.items()
            if left
        ]

    def moved(self, entity: Entity, status: str, fields: Mapping[str, Any], log_time: int) -> Entity:
        """Return the entity in a new state; the same entity if nothing differs."""
        old = {**self.rules.defaults, **entity.fields}
        differ = [name for name, value in fields.items() if old[name] != value]
        if not differ and status == entity.status:
            return entity
        version = entity.version + 1
        last = dict(entity.last) | dict.fromkeys(differ, version)
        if status != entity.status:
            last["status"] = version
        created = entity.status == "absent"
        return entity._replace(
            version=version,
            incarnation=max(log_time, entity.incarnation + 1) if created and status != "absent" else entity.incarnation,
            status=status,
            fields=fields,
            last=last,
            reborn=version if created and entity.version else entity.reborn,
            deleted_at=log_time if status == "absent" else None,
            armed=self._armed(entity, status, fields, differ, log_time) if self.rules.timers or entity.armed else {},
        )

    def _armed(
        self, entity: Entity, status: str, fields: Mapping[str, Any], differ: list[str], log_time: int
    ) -> Mapping[str, Armed]:
        """Return what is armed after a change, by the rules in force; what stays armed keeps its time under any rules.

        Args:
            entity: before the change.
            status: after it.
            fields: after it.
            differ: the fields that the change gave other values.
            log_time: of what led to the change.
        """
        entered = status != entity.status
        armed = {} if entered else dict(entity.armed)
        for name, timer in self.rules.timers.items():
            if status not in timer.table or not (entered or timer.at in differ):
                continue
            armed.pop(name, None)
            at = log_time + (timer.after or 0) if timer.at is None else fields[timer.at]
            if at is not None:
                armed[name] = Armed(max(at, log_time + _SOONEST_MS), entity.version + 1)
        return armed

    def accept(self, message: Message, key: str, after: Entity, log_time: int) -> None:
        """Take an accepted input over."""
        said = message.name, message.payload
        memory = Memory(said, message.input_id, after.version, log_time, message.event_time)
        kept = message.kind == "SIGNAL" or self.rules.rules[message.kind, message.name].dedup == "once"
        newest = after.applied.get(message.name)
        if kept and (newest is None or message.event_time >= newest.event_time):
            after = after._replace(applied={**after.applied, message.name: memory})
        after = self.count(message, after, log_time)
        if key:
            self._memory[message.kind, message.entity_id, key] = memory
        self.entities[message.entity_id] = after


def _place(window: Window, message: Message) -> tuple[str, str]:
    return window.what, message.proposer[:64] if window.by_proposer else ""


def _is_too_old(most: int, message: Message, decided_at: int) -> bool:
    read_at = message.columns.get("read_at")
    return read_at is None or not -AHEAD_MS <= decided_at - read_at <= most


def _ends(rule: Rule, message: Message) -> list[int]:
    until = message.columns["valid_until"]
    own = [] if until is None else [until]
    return own if rule.valid_for is None else [*own, message.issued_at + rule.valid_for]


def _occasion(rule: Rule, message: Message) -> str | None:
    """Return the dedup key; its form is observed. The empty key: the entity itself remembers, or there is none."""
    if isinstance(rule.dedup, list):
        values = [message.payload[name] for name in rule.dedup]
        return f"fields:{message.name}:{json.dumps(values, separators=(',', ':'), ensure_ascii=False)}"
    if rule.dedup != "key":
        return ""
    own, cause = message.columns["dedup_key"], message.columns["caused_by"]
    if message.kind == "SIGNAL":
        return f"key:{own or message.input_id}"
    return f"key:{own}" if own else f"cause:{cause}/{message.name}" if cause else ""


def _fence(rule: Rule, entity: Entity, columns: Mapping[str, Any]) -> tuple[str, Conflicts] | None:
    """Rung 8: what stands against the base of a proposal."""
    if rule.fence == "none":
        return None
    base, incarnation = columns["base_version"], columns["base_incarnation"]
    if incarnation is not None and incarnation != entity.incarnation:
        return "STALE", ()
    if base > entity.version:
        return "VERSION_AHEAD", ()
    exact, later = rule.fence == "exact", dict[int, list[str]]()
    for name in sorted(entity.last if exact else rule.fence):
        # A re-creation counts as a change of every field; observed: not among the conflicts of an exact fence.
        changed = max(entity.last.get(name, 0), 0 if exact else entity.reborn)
        if changed > base:
            later.setdefault(changed, []).append(name)
    if base == entity.version or not (exact or later):
        return None
    return "STALE", tuple(sorted(later.items()))
