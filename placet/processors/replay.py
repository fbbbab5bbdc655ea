"""The pure re-run: recorded inputs, in the recorded order, with the recorded times and rules.

What a gate chose (the order within a batch, the time of decision, when a deleted entity is forgotten) is recorded and
comes in as data; everything else follows from it and must come out as it was written. Nothing here is read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from placet.processors.address import Place
from placet.processors.dedup import memory_kept_ms
from placet.processors.judge import Entry, Verdict, consequences, fire, judge
from placet.processors.ladder import Times
from placet.processors.rules import Rules
from placet.processors.timers import first_due
from placet.processors.windows import windows_kept
from placet.schemas.codec.carried import KnownFields
from placet.schemas.decision import Coordinates, Decision, Fired, Outcome
from placet.schemas.ledger import AppliedEntry, Counted, Disarmed, KeptWindow, LedgerEntry, Windows
from placet.schemas.memory import Applied, Armed, Memory
from placet.schemas.messages import Kind
from placet.schemas.state import ABSENT, UNSEEN, Change, EntityState

__all__ = ["Replay", "Rerun"]

_MemoryKey = tuple[Kind, str, str]


class Rerun(NamedTuple):
    """What the rules say to one input: the decision, what follows from it besides, and the entity's state after it."""

    decision: Decision
    entries: list[Entry]
    after: EntityState

    @property
    def change(self) -> Change | None:
        """The change among what follows, if there is one."""
        return next((entry for entry in self.entries if isinstance(entry, Change)), None)


class Replay:
    """A task's memory, rebuilt input by input: the `View` of the ladder, backed by dicts.

    Memories that no longer count are let go in two generations, so that a long log does not fill the machine.

    Args:
        place: the task's partition, of how many.

    Attributes:
        watermark: the newest event_time applied.
        windows: those that the task keeps.
    """

    def __init__(self, place: Place) -> None:
        self.watermark = 0
        self._place = place
        self._states: dict[str, EntityState] = {}
        self._memories: dict[_MemoryKey, Memory] = {}
        self._older: dict[_MemoryKey, Memory] = {}
        self._younger_since = 0
        self._known_fields: KnownFields | None = None
        self.windows: tuple[KeptWindow, ...] = ()
        self._adopted: dict[type, Callable[[Any], None]] = {
            AppliedEntry: self._adopt_applied,
            Disarmed: self._adopt_disarmed,
            Counted: self._adopt_counted,
            Windows: self._adopt_windows,
        }

    def state(self, entity_id: str) -> EntityState:
        """Return an entity's state as of now (see `View`), as the definition of the running re-run has it."""
        state = self._states.get(entity_id, UNSEEN)
        return state if self._known_fields is None else self._known_fields.adopt(state)

    def memory(self, kind: Kind, entity_id: str, dedup_key: str) -> Memory | None:
        """Return what is remembered under a dedup key (see `View`)."""
        key = (kind, entity_id, dedup_key)
        return self._memories.get(key) or self._older.get(key)

    @property
    def remembered(self) -> int:
        """How many memories are kept, those that no longer count included."""
        return len(self._memories) + len(self._older)

    def rerun(self, rules: Rules, kind: Kind, key: bytes | None, value: bytes | None, at: Coordinates) -> Rerun:
        """Judge one input again and take in what follows from it.

        Args:
            rules: those that were in force; their codec knows the schemas that were known at the time.
            kind: which input topic it came from.
            key: the input's key.
            value: the input's bytes.
            at: where and when it was decided, as recorded.
        """
        self._known_fields, horizon_ms = rules.machine.known_fields, rules.machine.horizon_ms
        verdict = judge(rules, self, kind, key, value, self._place, self._times(at))
        return self._taken_in(verdict, at, horizon_ms)

    def rerun_timer(self, rules: Rules, entity_id: str, name: str, at: Coordinates) -> Rerun:
        """Judge a timer again that is armed, and take in what follows from it.

        Args:
            rules: those that were in force.
            entity_id: its entity.
            name: its name.
            at: when it fired, as recorded.
        """
        self._known_fields = rules.machine.known_fields
        verdict = fire(rules, self, entity_id, name, self._times(at))
        self._states[entity_id] = verdict.after
        return self._taken_in(verdict, at, rules.machine.horizon_ms)

    def keep_windows(self, rules: Rules, begin: int, memory_since: int) -> bool:
        """Keep the windows of the rules in force from now on; tell whether they are others than before.

        Args:
            rules: of the next transaction.
            begin: the earliest log time that is not decided yet.
            memory_since: of the ledger's genesis, in the first transaction.
        """
        before, self.windows = self.windows, windows_kept(rules.machine.windows, self.windows, begin, memory_since)
        return self.windows != before

    def _times(self, at: Coordinates) -> Times:
        return Times(at.log_time, at.decided_at, {window.name: window for window in self.windows})

    def armed(self, entity_id: str, name: str, fired: Fired) -> Armed | None:
        """Return the timer that a decision names, if it is armed."""
        state = self.state(entity_id)
        timer = (state.armed or {}).get(name)
        is_it = timer is not None and (state.incarnation, timer.version) == (fired.incarnation, fired.armed)
        return timer if is_it else None

    def overdue(self, before: int) -> list[tuple[str, tuple[int, str]]]:
        """Return the entities with a timer that was due before a time, and time and name of each."""
        found = ((entity, first_due(state, before)) for entity, state in self._states.items())
        return [(entity, due) for entity, due in found if due is not None]

    def _taken_in(self, verdict: Verdict, at: Coordinates, horizon_ms: int) -> Rerun:
        entries = consequences(verdict, at)
        if verdict.decision.outcome is Outcome.ACCEPTED and verdict.message is not None:
            entity_id = verdict.message.entity_id
            self.watermark = max(self.watermark, min(verdict.message.event_time, at.log_time))
            if verdict.after is not verdict.before:
                self._states[entity_id] = verdict.after
            for entry in entries:
                if entry.memory is not None:
                    key = (verdict.decision.kind, entity_id, verdict.decision.dedup_key)
                    self._remember(key, entry.memory, horizon_ms)
        return Rerun(verdict.decision, entries, verdict.after)

    def adopt_change(self, change: Change) -> None:
        """Take a recorded change for granted: the state where a re-run starts, or goes on after a difference."""
        self._states[change.entity_id] = change.state

    def adopt_memory(self, change: Change, horizon_ms: int) -> None:
        """Take for granted what a recorded change remembers: of a copied changelog the decisions are elsewhere."""
        if change.memory is not None:
            self._remember((change.kind, change.entity_id, change.dedup_key), change.memory, horizon_ms)

    def adopt_decision(self, decision: Decision, at: Coordinates, horizon_ms: int) -> None:
        """Take a recorded decision for granted: what was accepted is remembered, as rung 2 asks."""
        if decision.outcome is Outcome.ACCEPTED and decision.dedup_key:
            memory = Memory(decision.payload_digest, decision.input_id, decision.version_after, at.log_time)
            self._remember((decision.kind, decision.entity_id, decision.dedup_key), memory, horizon_ms)

    def adopt_entry(self, entry: LedgerEntry | None) -> None:
        """Take a ledger entry for granted, where it says more than its decision, which is adopted too.

        What is no consequence of an input is left alone.
        """
        adopt = self._adopted.get(type(entry))
        if adopt is not None:
            adopt(entry)

    def _adopt_applied(self, entry: AppliedEntry) -> None:
        """The newest input of a name, where it changed nothing."""
        state = self.state(entry.entity_id)
        known = state.applied.get(entry.name)
        if state.incarnation == entry.incarnation and (known is None or _age(known) <= _age(entry.applied)):
            applied = {**state.applied, entry.name: entry.applied}
            self._states[entry.entity_id] = state.remembering(applied)

    def _adopt_disarmed(self, entry: Disarmed) -> None:
        if self.armed(entry.entity_id, entry.name, Fired(entry.incarnation, entry.armed)):
            self._states[entry.entity_id] = self.state(entry.entity_id).disarmed(entry.name)

    def _adopt_counted(self, entry: Counted) -> None:
        state = self.state(entry.entity_id)
        if (state.incarnation, state.version) == (entry.incarnation, entry.version):
            self._states[entry.entity_id] = state.counting(entry.counts)

    def _adopt_windows(self, entry: Windows) -> None:
        self.windows = entry.windows

    def forget(self, entity_id: str) -> None:
        """Know nothing of an entity any more, as after its tombstone."""
        self._states.pop(entity_id, None)

    def why_not_forgotten(self, entity_id: str, log_time: int, horizon_ms: int) -> str:
        """Say why an entity may not be forgotten yet; "" when it may.

        Args:
            entity_id: the entity.
            log_time: the log time of the transaction that would forget it, ms.
            horizon_ms: the horizon in force.
        """
        state = self.state(entity_id)
        if state is UNSEEN:
            return "nothing is known of the entity"
        if state.status != ABSENT:
            return f"the entity is `{state.status}`"
        left_ms = memory_kept_ms(horizon_ms) - (log_time - state.remembered_at)
        return f"what it remembers counts for another {left_ms} ms" if left_ms >= 0 else ""

    def _remember(self, key: _MemoryKey, memory: Memory, horizon_ms: int) -> None:
        if memory.log_time - self._younger_since > memory_kept_ms(horizon_ms):
            # All that is older by now was written before the younger generation began: it no longer counts.
            self._older, self._memories, self._younger_since = self._memories, {}, memory.log_time
        self._memories[key] = memory


def _age(applied: Applied) -> tuple[int, int, int]:
    """What orders two applied inputs of one name: the later of two of the same time counts."""
    return applied.event_time, applied.log_time, applied.version
