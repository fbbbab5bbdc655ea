"""Checks one decision, and the change that it led to, against what this reader's own judge says.

Written from docs/records.md and docs/concepts.md, without a look at the gate's code. Where the docs were silent,
what the gate's output shows was taken over: `observed` marks these places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

from tests.model.second_definition import Rules
from tests.model.second_judge import NEVER_SEEN, REASONS, Entity, Judge, Message, Verdict
from tests.model.second_log import LoggedRecord, Row

__all__ = ["Deciding", "Place"]

_LAST_RUNG: Final = ("NONE", "GUARD_FAILED", "GUARD_ERROR", "INVARIANT_VIOLATED", "STATE_TOO_LARGE")
_SHARED: Final = ("task_epoch", "sequence", "decided_at", "definition_digest", "control_position")
_REPEATED: Final = (
    "topic", "offset", "task_epoch", "sequence", "decided_at", "definition_digest", "log_time", "kind", "name",
    "input_id", "dedup_key", "payload_digest", "entity_id",
)  # fmt: skip
_OF_STATE: Final = ("incarnation", "version", "status", "deleted_at")
_Change: TypeAlias = tuple[LoggedRecord, Row]


class Place(NamedTuple):
    """Where an input lies."""

    kind: str
    topic: str
    partition: int
    partitions: int  # how many there are
    read_to: int  # the newest time in the topic, up to the input


class Deciding:
    """Decides the inputs of one partition again, in their order."""

    def __init__(self, rules: Rules, others: Iterable[Rules], say: Callable[[str], None]) -> None:
        self.judge = Judge(rules, others)
        self.log_time = self.watermark = 0
        self.dead: dict[tuple[str, int, int], tuple[LoggedRecord, Row, LoggedRecord]] = {}
        self._said: dict[str, bytes] = {}  # name and payload, and their digest
        self._digests: set[bytes] = set()
        self.counted: list[Row] = []  # of the transaction: entries that the ledger must have of windows
        self._fired: dict[str, int] = {}  # of each entity the latest due time of those of its timers that fired
        self._say = say

    def compare(self, what: str, actual: Row, wanted: Row) -> None:
        """Say of each column that differs what it should be."""
        for name, value in wanted.items():
            found = actual.get(name, "no such column")  # an older version's rows have fewer
            if found != value:
                self._say(f"{what}: {name} is {found!r}, not {value!r}")

    def check(
        self, commit: Row, index: int, answer: _Change, asked: LoggedRecord, at: Place, cited: _Change | None
    ) -> list[tuple[Row, Message]]:
        """Decide an input again, and compare; return it if it was applied and changed nothing.

        Args:
            commit: of the transaction.
            index: which of the transaction's decisions this is.
            answer: the decision's record, and what it says.
            asked: the input.
            at: where the input lies.
            cited: the change that names the input as its cause.
        """
        (record, row), what = answer, f"{at.topic}@{asked.offset}"
        self.log_time = max(self.log_time, asked.timestamp)
        wanted = {name: commit[name] for name in _SHARED} | {"log_time": self.log_time, "kind": at.kind}
        self.compare(what, row, wanted | {"partition": at.partition, "index": index, "timer": None})
        if record.key != asked.key:
            self._say(f"{what}: the decision's key is {record.key!r}, the input's {asked.key!r}")
        fault, message = self.judge.read(at.kind, asked.key, asked.value, at.partition, at.partitions)
        if fault in ("UNDECODABLE", "UNKNOWN_SCHEMA"):
            self.dead[at.topic, at.partition, asked.offset] = record, row, asked
        if fault or message is None:
            self.compare(what, row, _before_rung_2(fault, message, asked))
            return []
        entity = self.judge.entities.get(message.entity_id, NEVER_SEEN)
        verdict = self.judge.verdict(message, self.log_time, row["decided_at"])
        if verdict.reason == "INVALID_PAYLOAD":
            self.compare(what, row, _before_rung_2(verdict.reason, message, asked))
            return []
        for name, armed in entity.armed.items():
            if armed.due < asked.timestamp:
                self._say(f"{what}: it is decided before the timer {name!r}, which was due at {armed.due}")
        self.check_in_time(what, message, at.read_to)
        after = self._after(what, row, verdict, message, entity, cited)
        self._check_payload(what, message, row["payload_digest"])
        if after is None:
            return []
        self.judge.accept(message, row["dedup_key"], after, self.log_time)
        self.watermark = max(self.watermark, min(message.event_time, self.log_time))
        if after is entity:
            self._note_counted(message, entity)
            return [(row, message)]
        self._check_change(what, cited, row, message, after)
        return []

    def _note_counted(self, message: Message, before: Entity) -> None:
        """An accepted input that changed nothing, and that a window counts, leaves an entry on the ledger."""
        entity = self.judge.entities[message.entity_id]
        if entity.counted is not before.counted:
            said = {"entity_id": message.entity_id, "incarnation": entity.incarnation, "version": entity.version}
            parts = self.judge.parts(entity, self.log_time)
            self.counted.append({**said, "log_time": self.log_time, "parts": parts})

    def check_in_time(self, what: str, message: Message, read_to: int) -> None:
        """An input that was appended before a timer of its entity was due, or at that time, is decided before it.

        Observed: where a topic's time steps back, a timer that was due meanwhile fires before the input or after it.
        """
        if read_to <= self._fired.get(message.entity_id, read_to - 1):
            self._say(f"{what}: it was appended in time, and a timer of {message.entity_id!r} fired before it")

    def fire(self, commit: Row, index: int, answer: _Change, partition: int, cited: _Change | None) -> bool:
        """Fire a timer again, and compare; return whether it was armed and changed nothing.

        Args:
            commit: of the transaction.
            index: which of the transaction's decisions this is.
            answer: the decision's record, and what it says.
            partition: where the entity lives.
            cited: the change that names the timer as its cause.
        """
        record, row = answer
        name, entity_id, fired = row["name"], row["entity_id"], row["timer"]
        what = f"the timer {name!r} of {entity_id!r}"
        self.log_time = max(self.log_time, row["log_time"])
        wanted = {each: commit[each] for each in _SHARED} | {"log_time": self.log_time, "kind": "TIMER"}
        wanted |= {"topic": "", "partition": partition, "offset": -1, "index": index, "payload_digest": b""}
        self.compare(what, row, wanted)
        if record.key != entity_id.encode():
            self._say(f"{what}: the decision's key is {record.key!r}")
        entity = self.judge.entities.get(entity_id, NEVER_SEEN)
        armed = entity.armed.get(name)
        if armed is None or fired != {"incarnation": entity.incarnation, "armed": armed.version}:
            self._say(f"{what}: it fires by {fired}, and is not armed by that")
            if row["outcome"] == "ACCEPTED":
                self.judge.entities[entity_id] = self._logged(cited, entity)
            return False
        if row["log_time"] < armed.due:
            self._say(f"{what}: it fires at {row['log_time']}, before it is due at {armed.due}")
        self._check_first(what, name, entity)
        self._fired[entity_id] = max(self._fired.get(entity_id, armed.due), armed.due)
        input_id = f"{name}/{entity.incarnation}/{armed.version}"  # observed
        timer = Message("TIMER", name, input_id, entity_id, armed.due, armed.due, "", {}, {})
        entity = entity._replace(armed={each: of for each, of in entity.armed.items() if each != name})
        verdict = self.judge.fires(timer, entity, self.log_time, row["decided_at"])
        after = self._after(what, row, verdict, timer, entity, cited)
        if row["outcome"] == "ACCEPTED":
            self.watermark = max(self.watermark, min(armed.due, self.log_time))
        accepted = row["outcome"] == "ACCEPTED"
        held = after or entity
        self.judge.entities[entity_id] = self.judge.count(timer, held, self.log_time) if accepted else held
        if after is None or after is entity:
            self._note_counted(timer, entity)
            return True
        self._check_change(what, cited, row, timer, after)
        return False

    def _check_first(self, what: str, name: str, entity: Entity) -> None:
        """Observed: an entity's timers fire in the order of their due times, and where these are equal, of names."""
        turn = entity.armed[name].due, name
        for other, armed in entity.armed.items():
            if (armed.due, other) < turn:
                self._say(f"{what}: it fires before {other!r}, which was due at {armed.due}")

    def _after(
        self, what: str, row: Row, verdict: Verdict, message: Message, entity: Entity, cited: _Change | None
    ) -> Entity | None:
        """Compare a decision with the verdict; return the entity as it is after it, or None if it was not accepted."""
        after = verdict.after
        if after is None and row["outcome"] == "ACCEPTED":
            after = self._logged(cited, entity)  # a wrong decision, or one that is not judged: go on from there
        if verdict.reason == "?" and row["reason"] in _LAST_RUNG:
            verdict = verdict._replace(reason=row["reason"], after=after)
        self.compare(what, row, _columns(verdict, message, entity))
        time = row["detail"].rpartition("; not before ")[2] if "; not before " in row["detail"] else "None"
        if verdict.reason == "RATE_LIMITED" and time != str(verdict.not_before):
            self._say(f"{what}: it says {row['detail']!r}, and may hold at {verdict.not_before}")
        return after if row["outcome"] == "ACCEPTED" else None

    def is_newest(self, row: Row, message: Message) -> bool:
        """Say whether only a ledger entry can keep that an input was applied: no later change carries it."""
        entity = self.judge.entities.get(message.entity_id, NEVER_SEEN)
        newest = entity.applied.get(message.name)
        here = row["version_after"], row["log_time"], message.input_id
        return newest is not None and (entity.version, newest.log_time, newest.input_id) == here

    def _logged(self, cited: _Change | None, entity: Entity) -> Entity:
        """Return the entity as its change says, where it is not known better."""
        if cited is None:
            return entity
        fields = {name: cited[1][name] for name in self.judge.rules.defaults}
        return self.judge.moved(entity, cited[1]["placet_status"], fields, self.log_time)

    def _check_change(self, what: str, cited: _Change | None, row: Row, message: Message, after: Entity) -> None:
        if cited is None:
            self._say(f"{what}: what was accepted changed the state, and no change cites it")
            return
        what, (record, change) = f"the change by {what}", cited
        wanted = {f"placet_{name}": row[name] for name in _REPEATED}
        wanted |= {"placet_event_time": message.event_time, "placet_proposer": message.proposer}
        wanted |= {f"placet_{name}": getattr(after, name) for name in _OF_STATE}
        self.compare(what, change, wanted | {name: after.fields[name] for name in self.judge.rules.defaults})
        if record.key != message.entity_id.encode():
            self._say(f"{what}: its key is {record.key!r}, its entity {message.entity_id!r}")
        memory = ["placet-memory"] if row["dedup_key"] else []
        deleted = ["placet-deleted"] if after.deleted_at is not None else []
        armed = ["placet-armed"] if after.armed else []
        headers = [name for name, _ in record.headers]
        if headers != ["placet-state", *memory, *deleted, *armed]:
            self._say(f"{what}: it has the headers {headers}")
        elif armed:
            # Observed: a time at which several are due stands there once.
            due, said = sorted({each.due for each in after.armed.values()}), record.headers[-1][1]
            if said != b"".join(each.to_bytes(8, "big") for each in due):
                self._say(f"{what}: its header placet-armed is {said.hex()}, due are {due}")

    def _check_payload(self, what: str, message: Message, digest: bytes) -> None:
        """Equal digests for equal names and payloads, and only for them."""
        said = f"{message.name} {message.payload!r}"
        if said not in self._said and digest not in self._digests and len(digest) == 16:
            self._said[said] = digest
            self._digests.add(digest)
        elif self._said.get(said) != digest:
            self._say(f"{what}: its payload's digest is not that of the payload")


def _before_rung_2(reason: str, message: Message | None, asked: LoggedRecord) -> dict[str, Any]:
    """Return what the decision on an unreadable input says. Observed: nothing of the entity's state."""
    number, retry, outcome = REASONS[reason]
    return {
        "reason": reason, "reason_code": number, "retry": retry, "outcome": outcome, "conflicts": [], "first": None,
        "name": message.name if message else "",
        "input_id": message.input_id if message else "",
        "entity_id": message.entity_id if message else (asked.key or b"").decode(errors="replace"),
        "dedup_key": "", "payload_digest": b"", "changed": False, "version_before": 0, "version_after": 0,
        "incarnation": 0, "status_before": "", "status_after": "",
    }  # fmt: skip


def _columns(verdict: Verdict, message: Message, entity: Entity) -> dict[str, Any]:
    """Return what a decision must say."""
    if verdict.reason not in REASONS:
        return {"reason": "one of rung 10, or NONE"}
    (number, retry, outcome), first, after = REASONS[verdict.reason], verdict.first, verdict.after or entity
    key = {} if verdict.key is None else {"dedup_key": verdict.key}
    return key | {
        "reason": verdict.reason, "reason_code": number, "retry": retry, "outcome": outcome,
        "first": first and {"input_id": first.input_id, "version": first.version, "log_time": first.log_time},
        "conflicts": [{"version": version, "fields": fields} for version, fields in verdict.conflicts],
        "name": message.name, "input_id": message.input_id, "entity_id": message.entity_id,
        "changed": after is not entity, "version_before": entity.version, "version_after": after.version,
        "incarnation": after.incarnation, "status_before": entity.status, "status_after": after.status,
    }  # fmt: skip
