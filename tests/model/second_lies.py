"""Lies to plant in an honest history: the second checker must find each of them.

A signed lie has its counts, digests and links made right again, so that no digest gives it away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from io import BytesIO
from typing import Any, Final

from fastavro import schemaless_writer

from placet.testing import START_MS
from tests.model.second_checker import History, LoggedRecord
from tests.model.second_definition import rules_of
from tests.model.second_log import CONTRACTS, cause_of, decoded, entry_of, partition_of

__all__ = ["COUNTED", "SIGNED", "TIMED", "UNSIGNED", "Log", "undecided"]

COMMIT: Final = {"is": "Commit"}


class Log:
    """A history that can be altered."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.logs = {topic: [list(part) for part in parts] for topic, parts in history.topics.items()}
        self.positions, self.ends = dict(history.positions), dict(history.ends)
        self.forms = {
            "decisions": CONTRACTS["decision"],
            "changelog": rules_of(history.definition).schemas["CHANGE"],
            "dead-letters": CONTRACTS["dead_letter"],
        }

    def of(self, name: str) -> list[LoggedRecord]:
        return self.logs[f"test.{name}" if name == "dead-letters" else f"test.lamp.{name}"][0]

    def row(self, name: str, record: LoggedRecord) -> Any:
        if name == "ledger":
            entry = entry_of(record.value)
            return {} if entry is None else {"is": entry["entry"][0].rpartition(".")[2], **entry["entry"][1]}
        return decoded(record.value, self.forms[name]) or {}

    def find(self, name: str, /, **wanted: Any) -> int:
        rows = [self.row(name, record) for record in self.of(name)]
        return next(n for n, row in enumerate(rows) if row and wanted.items() <= row.items())

    def alter(self, name: str, number: int, /, **columns: Any) -> None:
        record, stream = self.of(name)[number], BytesIO()
        row = self.row(name, record) | columns
        if name == "ledger":
            contract = CONTRACTS["ledger_windows" if row["is"] in ("Windows", "Counted") else "ledger"]
            schemaless_writer(stream, contract[1], {"entry": (f"placet.ledger.{row.pop('is')}", row)})
        else:
            schemaless_writer(stream, self.forms[name][1], row)
        self.of(name)[number] = replace(record, value=(record.value or b"")[:10] + stream.getvalue())

    def decision(self, input_id: str, /, **columns: Any) -> None:
        self.alter("decisions", self.find("decisions", input_id=input_id), **columns)

    def change(self, input_id: str, /, **columns: Any) -> None:
        self.alter("changelog", self.find("changelog", placet_input_id=input_id), **columns)

    def commit(self, sequence: int, /, **columns: Any) -> None:
        self.alter("ledger", self.find("ledger", **COMMIT, sequence=sequence), **columns)

    def drop(self, name: str, /, **wanted: Any) -> None:
        del self.of(name)[self.find(name, **wanted)]

    def double(self, name: str, number: int, /, **columns: Any) -> None:
        """Write a record once more, at the end of the topic."""
        log = self.of(name)
        log.append(replace(log[number], offset=log[-1].offset + 1))
        if columns:
            self.alter(name, len(log) - 1, **columns)

    def sign(self) -> None:
        """Make counts, digests and links right again, so that only the lie itself is wrong."""
        previous = b""
        for number, record in enumerate(self.of("ledger")):
            commit = self.row("ledger", record)
            if commit.get("is") != "Commit":
                continue
            rows = [
                (each, self.row("changelog", each)) for each in self.of("changelog") if each.producer == record.producer
            ]
            pieces, decisions = b"", 0
            for each in self.of("decisions"):
                if each.producer == record.producer:
                    row, decisions = self.row("decisions", each), decisions + 1
                    if not row:
                        continue
                    for change, columns in rows:
                        if columns and cause_of(columns, "placet_") == cause_of(row) and row["changed"]:
                            pieces += (change.key or b"") + (change.value or b"")
                    pieces += (each.key or b"") + (each.value or b"")
            pieces += b"".join(each.key or b"" for each, columns in rows if not columns)
            digest = blake2b(pieces, digest_size=16).digest()
            counts = {"decisions": decisions, "changes": sum(1 for _, columns in rows if columns)}
            self.alter("ledger", number, digest=digest, previous=previous, **counts)
            previous = digest

    def told(self) -> History:
        return self.history._replace(topics=self.logs, positions=self.positions, ends=self.ends)


SIGNALS, PROPOSALS = "test.lamp.signals", "test.lamp.proposals"


def _swap(log: Log, name: str, one: int, other: int) -> None:
    """Let two records change places; the offsets stay."""
    records = log.of(name)
    a, b = records[one], records[other]
    records[one], records[other] = replace(b, offset=a.offset), replace(a, offset=b.offset)


def _reverse_batch(log: Log) -> None:
    """Decide the inputs of transaction 10 in the wrong order, with log times and versions that fit it."""
    for name in ("decisions", "changelog"):
        first = log.find(name, **({"input_id": "s-4"} if name == "decisions" else {"placet_input_id": "s-4"}))
        _swap(log, name, first, first + 1)
    late = {"log_time": START_MS + 3}
    log.decision("p-5", index=0, version_before=3, version_after=4, **late)
    log.decision("s-4", index=1, version_before=4, version_after=5, **late)
    log.change("p-5", placet_version=4, watts=4, placet_log_time=START_MS + 3)
    log.change("s-4", placet_version=5, hits=1, placet_log_time=START_MS + 3)


def _aborted(log: Log) -> None:
    """The decision and change of a transaction that was aborted, and tried again."""
    for name in ("decisions", "changelog"):
        record = log.of(name)[1]
        log.of(name).insert(1, replace(record, offset=record.offset - 1, producer=99))


def _accepted_once_more(log: Log) -> None:
    """The duplicate is applied, with all that belongs to it."""
    number = log.find("decisions", reason="REPEATED")
    accepted = {"outcome": "ACCEPTED", "reason": "NONE", "reason_code": 0, "first": None}
    log.alter("decisions", number, **accepted, changed=True, version_after=3)
    first = log.of("changelog")[1]
    log.of("changelog").insert(
        2, replace(first, offset=first.offset + 1, producer=log.of("decisions")[number].producer)
    )
    log.alter("changelog", 2, placet_version=3, placet_sequence=3, placet_offset=2)


def _stale_accepted(log: Log) -> None:
    accepted = {
        "outcome": "ACCEPTED",
        "reason": "NONE",
        "reason_code": 0,
        "retry": "NEVER",
        "conflicts": [],
        "detail": "",
    }
    log.decision("proposal-3", **accepted)


def _other_partition(log: Log) -> None:
    """The topics have so many partitions that `a` does not belong to the first one, where it lies."""
    count = next(count for count in range(2, 9) if partition_of(b"a", count) > 0)
    for parts in log.logs.values():
        parts += [[] for _ in range(count - 1)]


def _move_position(log: Log, by: int) -> None:
    log.positions[SIGNALS, 0] += by


def undecided(log: Log, age: int) -> None:
    """One more fact arrives, too late to be decided in this history."""
    last = log.logs[SIGNALS][0][-1]
    log.logs[SIGNALS][0].append(replace(last, offset=last.offset + 1, timestamp=last.timestamp - age))
    log.ends[SIGNALS, 0] += 1


def _producer(log: Log, name: str, number: int, producer: int) -> None:
    log.of(name)[number] = replace(log.of(name)[number], producer=producer)


def _key(log: Log, name: str, number: int, key: bytes | None) -> None:
    log.of(name)[number] = replace(log.of(name)[number], key=key)


def _tombstone(log: Log) -> None:
    """The last transaction forgets the entity `b`, which lives."""
    last = log.of("changelog")[-1]
    log.of("changelog").append(replace(last, offset=last.offset + 1, value=None, headers=()))


def _header(log: Log, number: int, *values: bytes) -> None:
    headers = tuple(("placet-tombstone", value) for value in values)
    log.of("changelog")[number] = replace(log.of("changelog")[number], headers=headers)


def _offset(log: Log, name: str, number: int, other: int) -> None:
    log.of(name)[number] = replace(log.of(name)[number], offset=log.of(name)[other].offset)


def _value(log: Log, name: str, number: int, value: bytes) -> None:
    log.of(name)[number] = replace(log.of(name)[number], value=value)


def _taken(log: Log, number: int) -> LoggedRecord:
    return replace(log.of("ledger").pop(number), offset=-1)


def _deleted(log: Log, number: int) -> None:
    """An entry of the ledger is deleted in the next transaction already."""
    record = log.of("ledger")[number]
    log.of("ledger").insert(7, replace(record, offset=2 * 7 - 1, value=None, producer=5))


_Lie = Callable[[Log], Any]
# What is planted, after which counts, digests and links are made right; and what must be said.
SIGNED: dict[str, tuple[_Lie, str]] = {
    "a decision dropped": (lambda log: log.drop("decisions", input_id="s-3"), "signals@3 has 0 decisions"),
    "a decision doubled": (lambda log: log.double("decisions", 1), "signals@1 has 2 decisions"),
    "a decision on no input": (lambda log: log.double("decisions", 15, offset=77), "which is no input"),
    "a decision beyond the position": (lambda log: _move_position(log, -1), "has 1 decisions, with the position at 10"),
    "a decision of another partition": (lambda log: log.decision("s-3", partition=1), "partition is 1, not 0"),
    "a version": (lambda log: log.decision("s-4", version_after=5), "version_after is 5, not 4"),
    "a gap in the versions": (lambda log: log.change("s-4", placet_version=5), "placet_version is 5, not 4"),
    "a change dropped": (lambda log: log.drop("changelog", placet_input_id="s-2"), "no change cites it"),
    "a change doubled": (lambda log: log.double("changelog", 10), "two changes by"),
    "a change without decision": (lambda log: log.change("s-7", placet_offset=9), "are not those of its accepted"),
    "a change in the next transaction": (lambda log: _producer(log, "changelog", 1, 3), "no change cites it"),
    "a change in another order": (lambda log: _swap(log, "changelog", 3, 4), "in their order"),
    "a change by a refused input": (
        lambda log: log.double("changelog", 10, placet_topic=PROPOSALS, placet_offset=2),
        "are not those of its accepted decisions",
    ),
    "a field": (lambda log: log.change("s-5", watts=7), "watts is 7, not 6"),
    "a status": (lambda log: log.change("proposal-1", placet_status="off"), "placet_status is 'off', not 'lit'"),
    "a cause": (lambda log: log.change("s-5", placet_input_id="s-4"), "placet_input_id is 's-4', not 's-5'"),
    "a duplicate applied": (_accepted_once_more, "outcome is 'ACCEPTED', not 'DUPLICATE'"),
    "a duplicate of another": (
        lambda log: log.alter("decisions", 2, first={"input_id": "x", "version": 2, "log_time": START_MS}),
        "first is {'input_id': 'x'",
    ),
    "a stale proposal applied": (_stale_accepted, "reason is 'NONE', not 'STALE'"),
    "a stale proposal's conflicts": (lambda log: log.decision("proposal-3", conflicts=[]), "conflicts is []"),
    "a broken invariant": (
        lambda log: log.decision("proposal-4", reason="GUARD_FAILED", reason_code=1001),
        "reason is 'GUARD_FAILED', not 'INVARIANT_VIOLATED'",
    ),
    "a retry": (lambda log: log.decision("proposal-2", retry="NEVER"), "retry is 'NEVER', not 'RECOMPUTE'"),
    "log time back": (lambda log: log.decision("s-5", log_time=START_MS + 1), "log_time is"),
    "log time of a commit back": (lambda log: log.commit(12, log_time=START_MS + 4), "log_time goes down"),
    "log time past an input": (lambda log: undecided(log, 1), "log time passed the undecided input"),
    "log time in the future": (lambda log: log.commit(14, log_time=START_MS + 10**6), "beyond the time of decision"),
    "inputs out of their order": (_reverse_batch, "was decided after a later one"),
    "decisions out of their order": (lambda log: _swap(log, "decisions", 0, 1), "lies behind those of a later commit"),
    "an index": (lambda log: log.decision("p-5", index=2), "index is 2, not 1"),
    "a watermark": (lambda log: log.commit(10, watermark=START_MS + 1), "watermark is"),
    "an epoch down": (lambda log: log.commit(13, task_epoch=1), "task_epoch goes down, from 2 to 1"),
    "an epoch of a decision": (lambda log: log.decision("s-7", task_epoch=1), "task_epoch is 1, not 2"),
    "a definition": (lambda log: log.commit(13, definition_digest=b"x" * 16), "one definition has 2 digests"),
    "a payload's digest": (lambda log: log.decision("s-3", payload_digest=b"x" * 16), "its payload's digest"),
    "a sequence": (lambda log: log.commit(11, sequence=12), "sequence is 12, not 11"),
    "two commits swapped": (lambda log: _swap(log, "ledger", 14, 15), "sequence is 13, not 12"),
    "a commit dropped": (lambda log: log.drop("ledger", **COMMIT, sequence=11), "without its commit"),
    "a commit doubled": (lambda log: log.double("ledger", 21), "a transaction has two commits"),
    "a span's start": (
        lambda log: log.commit(
            15, spans=[{"topic": SIGNALS, "start": 9, "end": 11}, {"topic": PROPOSALS, "start": 5, "end": 5}]
        ),
        "from 9 to 11, after 10",
    ),
    "a span too long": (
        lambda log: log.commit(
            15, spans=[{"topic": SIGNALS, "start": 10, "end": 12}, {"topic": PROPOSALS, "start": 5, "end": 5}]
        ),
        "to 12, behind its end",
    ),
    "a span too few": (
        lambda log: log.commit(15, spans=[{"topic": SIGNALS, "start": 10, "end": 11}]),
        "the two inputs",
    ),
    "no genesis": (lambda log: log.drop("ledger", **{"is": "Genesis"}), "has not one genesis"),
    "a genesis at last": (lambda log: log.double("ledger", 0), "has not one genesis"),
    "a genesis of others": (lambda log: log.alter("ledger", 0, partitions=2), "another number of partitions"),
    "an aborted transaction": (_aborted, "without its commit"),
    "a position ahead": (lambda log: _move_position(log, 1), "position in test.lamp.signals is 12, the ledger's 11"),
    "no position": (lambda log: log.positions.pop((PROPOSALS, 0)), "position in test.lamp.proposals is 0"),
    "an input undecided": (lambda log: undecided(log, 0), "has no decision, and all is settled"),
    "another partition": (_other_partition, "WRONG_PARTITION"),
    "a change's partition": (_other_partition, "has a key of another partition"),
    "a decision's key": (lambda log: _key(log, "decisions", 1, b"b"), "the decision's key is b'b'"),
    "a change's key": (lambda log: _key(log, "changelog", 1, b"b"), "its key is b'b'"),
    "a topic's partitions": (lambda log: log.logs["test.lamp.ledger"].append([]), "numbers of partitions"),
    "memory dropped": (lambda log: log.of("ledger").pop(4), "no memory is kept"),
    "memory of no input": (lambda log: log.alter("ledger", 4, dedup_key="key:s-9"), "is of no input"),
    "memory altered": (lambda log: log.alter("ledger", 5, incarnation=7), "incarnation is 7"),
    "memory deleted early": (lambda log: _deleted(log, 4), "is deleted within the horizon"),
    "a tombstone early": (lambda log: log.commit(14, log_time=START_MS + 660_005), "comes within the horizon"),
    "a tombstone of a living entity": (_tombstone, "which is not deleted"),
    "a tombstone's version": (
        lambda log: _header(log, 9, b"8/2/14"),
        "not b'7/2/14'",
    ),
    "a header dropped": (
        lambda log: _header(log, 0),
        "it has the headers []",
    ),
    "a dead letter dropped": (lambda log: log.of("dead-letters").clear(), "has no dead letter"),
    "a dead letter doubled": (lambda log: log.double("dead-letters", 0), "or is the second"),
    "a dead letter elsewhere": (lambda log: _producer(log, "dead-letters", 0, 3), "is not that of its decision"),
    "a dead letter altered": (lambda log: log.alter("dead-letters", 0, value=b"x"), "does not hold the input"),
    "a decision in the next transaction": (
        lambda log: _producer(log, "decisions", 1, 3),
        "decided [1, 2], its span holds [2]",
    ),
    "an unreadable input's version": (lambda log: log.decision("p-6", version_before=3), "version_before is 3, not 0"),
    "offsets that stand still": (lambda log: _offset(log, "changelog", 3, 4), "offsets of the changelog do not ascend"),
    "a record behind the end": (lambda log: log.ends.update({(SIGNALS, 0): 10}), "lies behind the topic's end"),
    "memory before the genesis": (lambda log: log.of("ledger").insert(0, _taken(log, 4)), "lies before the genesis"),
    "log time below the inputs'": (lambda log: log.commit(10, log_time=START_MS + 3), "below that of its inputs"),
    "memory of another transaction": (lambda log: log.alter("ledger", 4, sequence=5), "a memory: sequence is 5, not 4"),
    "memory of another version": (
        lambda log: log.alter("ledger", 4, memory=log.row("ledger", log.of("ledger")[4])["memory"] | {"version": 3}),
        "a memory: version is 3, not 2",
    ),
    "the newest dropped": (lambda log: log.of("ledger").pop(5), "no entry keeps the newest applied input"),
    "the newest of no input": (lambda log: log.alter("ledger", 5, name="sold"), "is of no input that was accepted"),
    "the newest of another time": (
        lambda log: log.alter(
            "ledger", 5, applied=log.row("ledger", log.of("ledger")[5])["applied"] | {"event_time": 7}
        ),
        "the newest: event_time is 7",
    ),
    "the newest deleted early": (lambda log: _deleted(log, 5), "is deleted, and its entity is not"),
    "bytes for a change": (lambda log: _value(log, "changelog", 1, b"x"), "record 2 is no change"),
    "bytes for an entry": (lambda log: _value(log, "ledger", 4, b"x"), "record 7 is no entry"),
    "an entry's key": (lambda log: _key(log, "ledger", 4, b"applied/a"), "is a MemoryEntry with the key b'applied/a'"),
    "bytes for a decision": (lambda log: _value(log, "decisions", 1, b"x"), "record 2 is no decision"),
}
UNSIGNED: dict[str, tuple[_Lie, str]] = {
    "a previous digest": (lambda log: log.commit(7, previous=b"x" * 16), "commit 7: previous is"),
    "a digest": (lambda log: log.decision("proposal-2", detail="another"), "commit 6: its digest is not that"),
    "a count of decisions": (lambda log: log.commit(10, decisions=2), "commit 10: decisions is 2, not 3"),
    "a count of changes": (lambda log: log.commit(10, changes=2), "commit 10: changes is 2, not 3"),
    "a transaction torn": (lambda log: log.drop("decisions", input_id="p-5"), "commit 10: decisions is 3, not 2"),
}


def _fired(timer: str, entity: str, /, **columns: Any) -> _Lie:
    """The decision of a timer says something else."""
    return lambda log: log.alter("decisions", log.find("decisions", name=timer, entity_id=entity), **columns)


def _again(log: Log) -> None:
    """A timer that was refused fires once more, in the transaction of the next one."""
    log.double("decisions", 2)
    _producer(log, "decisions", -1, log.of("decisions")[3].producer)


def _stamp(log: Log, offset: int, milliseconds: int) -> None:
    """A broker gave an input another time, and so the input's log time is another."""
    records, time = log.of("signals"), START_MS + milliseconds
    records[offset] = replace(records[offset], timestamp=time)
    log.alter("decisions", log.find("decisions", topic=SIGNALS, offset=offset), log_time=time)
    log.alter("changelog", log.find("changelog", placet_topic=SIGNALS, placet_offset=offset), placet_log_time=time)


def _answered(log: Log) -> None:
    """One more fact about `b` lies there from before its timer was due."""
    records = log.of("signals")
    records.append(replace(records[6], offset=records[-1].offset + 1))
    log.ends[SIGNALS, 0] += 1


def _passed_over(log: Log) -> None:
    """The first of two timers has not fired."""
    log.drop("decisions", name="forgotten", entity_id="a")
    log.drop("ledger", **{"is": "Disarmed"}, name="forgotten")


def _armed(log: Log, number: int, *milliseconds: int) -> None:
    """The header of a change says other due times."""
    record = log.of("changelog")[number]
    headers = [each for each in record.headers if each[0] != "placet-armed"]
    if milliseconds:
        headers.append(("placet-armed", b"".join((START_MS + each).to_bytes(8, "big") for each in milliseconds)))
    log.of("changelog")[number] = replace(record, headers=tuple(headers))


def _disarmed(log: Log, /, **columns: Any) -> None:
    log.alter("ledger", log.find("ledger", **{"is": "Disarmed"}), **columns)


def _armed_anew(log: Log, name: str, sequence: int) -> None:
    """The ledger forgets in another transaction that a timer fired."""
    commit, disarmed = log.find("ledger", **COMMIT, sequence=sequence), log.find("ledger", name=name)
    ledger = log.of("ledger")
    gone = replace(ledger[disarmed], offset=ledger[commit].offset, value=None, producer=ledger[commit].producer)
    ledger.insert(commit, gone)


def _unfired(log: Log) -> None:
    log.drop("decisions", name="forgotten", entity_id="b")
    log.drop("changelog", placet_name="forgotten")


# As above, in a history with timers, of which each must have fired that was due at its end.
TIMED: dict[str, tuple[_Lie, str]] = {
    "a timer that fired twice": (_again, "'forgotten' of 'a': it fires by"),
    "a timer never armed": (_fired("ends", "a", name="again"), "'again' of 'a': it fires by"),
    "a timer of another version": (
        _fired("ends", "a", timer={"incarnation": START_MS, "armed": 3}),
        "'ends' of 'a': it fires by {'incarnation': 1767225600000, 'armed': 3}, and is not armed by that",
    ),
    "a timer of another life": (
        _fired("ends", "a", timer={"incarnation": START_MS + 1, "armed": 4}),
        "'ends' of 'a': it fires by",
    ),
    "a timer of another entity": (_fired("ends", "a", entity_id="b"), "'ends' of 'b': it fires by"),
    "a timer before an answer in time": (lambda log: _stamp(log, 4, 3_000), "signals@4: it was appended in time"),
    "a timer before an answer that waits": (_answered, "signals@9: it was appended in time"),
    "a timer after a later input": (lambda log: _stamp(log, 3, 3_001), "signals@3: it is decided before the timer"),
    "a timer passed over": (_passed_over, "'wears' of 'a': it fires before 'forgotten'"),
    "a timer before its time": (_fired("forgotten", "b", log_time=START_MS + 707_999), "before it is due at"),
    "a timer past an undecided input": (_fired("wears", "a", log_time=START_MS + 2_001), "passed the undecided input"),
    "a timer in the future": (_fired("forgotten", "b", log_time=START_MS + 713_002), "beyond the time of decision"),
    "a timer whose log time goes back": (_fired("ends", "a", log_time=START_MS + 2_999), "log_time is"),
    "a timer overdue": (_unfired, "the timer 'forgotten' of 'b' was due at"),
    "a refused timer applied": (
        _fired("breaks", "a", outcome="ACCEPTED", reason="NONE", reason_code=0, retry="NEVER"),
        "reason is 'NONE', not 'GUARD_FAILED'",
    ),
    "an applied timer refused": (
        _fired("wears", "a", outcome="REFUSED", reason="GUARD_FAILED", reason_code=1001, retry="RECOMPUTE"),
        "reason is 'GUARD_FAILED', not 'NONE'",
    ),
    "a timer's topic": (_fired("wears", "a", topic=SIGNALS), "topic is 'test.lamp.signals', not ''"),
    "a timer's offset": (_fired("breaks", "a", offset=0), "offset is 0, not -1"),
    "a timer's kind": (_fired("breaks", "a", kind="SIGNAL"), "kind is 'SIGNAL', not 'TIMER'"),
    "a timer's id": (_fired("wears", "a", input_id="wears"), "input_id is 'wears'"),
    "a timer's dedup key": (_fired("breaks", "a", dedup_key="breaks"), "dedup_key is 'breaks', not ''"),
    "a timer's payload": (_fired("breaks", "a", payload_digest=b"x" * 16), "payload_digest is"),
    "a timer's index": (_fired("ends", "a", index=1), "index is 1, not 0"),
    "a timer's key": (lambda log: _key(log, "decisions", 3, b"b"), "the decision's key is b'b'"),
    "an input that says it is none": (_fired("till", "a", timer=None, topic="", offset=-1), "which is no input"),
    "an input that says it is a timer": (
        _fired("till", "a", timer={"incarnation": START_MS, "armed": 3}),
        "'till' of 'a': it fires by",
    ),
    "a timer's change dropped": (lambda log: log.drop("changelog", placet_name="wears"), "no change cites it"),
    "a timer's change doubled": (lambda log: log.double("changelog", 2), "two changes by"),
    "a timer's change at another time": (
        lambda log: log.alter("changelog", 2, placet_event_time=START_MS + 1_501),
        "placet_event_time is",
    ),
    "a timer's change by somebody": (lambda log: log.alter("changelog", 2, placet_proposer="p"), "placet_proposer is"),
    "a field that a timer set": (lambda log: log.alter("changelog", 2, hits=2), "hits is 2, not 1"),
    "a header of due times dropped": (lambda log: _armed(log, 1), "it has the headers"),
    "a header of due times altered": (lambda log: _armed(log, 1, 1_000, 1_501, 10_000), "its header placet-armed is"),
    "a header of due times swapped": (lambda log: _armed(log, 1, 1_500, 1_000, 10_000), "its header placet-armed is"),
    "a header of due times too many": (lambda log: _armed(log, 10, 9_000), "it has the headers"),
    "a header with a timer that fired": (lambda log: _armed(log, 2, 1_000, 10_000), "its header placet-armed is"),
    "a disarmed timer dropped": (lambda log: log.drop("ledger", **{"is": "Disarmed"}), "forgotten' is missing"),
    "a disarmed timer doubled": (lambda log: log.double("ledger", 3), "or is the second"),
    "a disarmed timer of another version": (lambda log: _disarmed(log, armed=1), "armed is 1, not 2"),
    "a disarmed timer's key": (lambda log: _key(log, "ledger", 3, b"disarmed/a/wears"), "is of no timer that fired"),
    "a disarmed timer armed anew": (lambda log: _armed_anew(log, "breaks", 9), "its entity has no later change"),
}


def _entry(log: Log, kind: str, number: int = 0) -> int:
    """Which record of the ledger holds an entry of a kind."""
    return [n for n, record in enumerate(log.of("ledger")) if log.row("ledger", record).get("is") == kind][number]


def _windows(log: Log, /, **parts: Any) -> None:
    """The first entry of windows says something else of the first of them."""
    number = _entry(log, "Windows")
    first, *others = log.row("ledger", log.of("ledger")[number])["windows"]
    log.alter("ledger", number, windows=[first | parts, *others])


def _counted(log: Log, /, **parts: list[int]) -> None:
    """The second entry of what was counted says something else: two alerts, of one and the same part."""
    number = _entry(log, "Counted", 1)
    (first,) = log.row("ledger", log.of("ledger")[number])["parts"]
    log.alter("ledger", number, parts=[first | parts])


def _inserted(log: Log, number: int, at: int, /, **parts: Any) -> None:
    """An entry of the ledger stands there once more, in the transaction of another one."""
    ledger = log.of("ledger")
    ledger.insert(at, replace(ledger[number], offset=ledger[at].offset, producer=ledger[at].producer, **parts))


def _refusal_counted(log: Log) -> None:
    """The proposal that was too much is counted, as the two before."""
    commit = log.find("ledger", **COMMIT, sequence=4)
    _inserted(log, _entry(log, "Counted", 1), commit)
    (part,) = log.row("ledger", log.of("ledger")[commit])["parts"]
    more = {"times": [*part["times"], START_MS + 10], "amounts": [1, 1, 1]}
    log.alter("ledger", commit, parts=[part | more], sequence=4)


def _commit_of_tombstone(log: Log, /, **columns: Any) -> None:
    (gone,) = [record for record in log.of("changelog") if record.value is None]
    commits = [n for n, record in enumerate(log.of("ledger")) if record.key == b"commit"]
    log.alter("ledger", next(n for n in commits if log.of("ledger")[n].producer == gone.producer), **columns)


_ACCEPTED: Final = {"outcome": "ACCEPTED", "reason": "NONE", "reason_code": 0, "retry": "NEVER", "detail": ""}
_TOO_MUCH: Final = {"outcome": "REFUSED", "reason": "RATE_LIMITED", "reason_code": 601, "retry": "LATER"}
# As above, in a history with windows and limits.
COUNTED: dict[str, tuple[_Lie, str]] = {
    "a proposal beyond its limit accepted": (
        lambda log: log.decision("p-3", **_ACCEPTED),
        "reason is 'NONE', not 'RATE_LIMITED'",
    ),
    "a proposal within its limit refused": (
        lambda log: log.decision("p-2", **_TOO_MUCH),
        "reason is 'RATE_LIMITED', not 'NONE'",
    ),
    "a sum beyond its limit accepted": (
        lambda log: log.decision("p-5", **_ACCEPTED),
        "reason is 'NONE', not 'RATE_LIMITED'",
    ),
    "a limit of another's window": (
        lambda log: log.decision("p-6", **_TOO_MUCH),
        "reason is 'RATE_LIMITED', not 'NONE'",
    ),
    "a limit on a window that is not known": (
        lambda log: log.decision("p-8", **_ACCEPTED),
        "reason is 'NONE', not 'RATE_LIMITED'",
    ),
    "a time too early": (
        lambda log: log.decision("p-3", detail=f"limit `x` is false: x; not before {START_MS + 2_999}"),
        f"and may hold at {START_MS + 3_000}",
    ),
    "no time": (lambda log: log.decision("p-8", detail="limit `x`"), "and may hold at"),
    "a value that reads a window": (lambda log: log.change("p-4", spent=5), "spent is 5, not 4"),
    "windows not told": (lambda log: log.of("ledger").pop(_entry(log, "Windows")), "its entries of windows are []"),
    "other windows not told": (
        lambda log: log.of("ledger").pop(_entry(log, "Windows", 1)),
        "its entries of windows are []",
    ),
    "windows told once more": (
        lambda log: _inserted(log, _entry(log, "Windows"), log.find("ledger", **COMMIT, sequence=2)),
        "commit 2: its entries of windows are",
    ),
    "a window kept since before": (lambda log: _windows(log, since=0), "commit 1: its entries of windows are"),
    "a window of another time": (lambda log: _windows(log, within_ms=5_001), "commit 1: its entries of windows are"),
    "a window of another input": (lambda log: _windows(log, what="count dim"), "commit 1: its entries of windows are"),
    "what was counted dropped": (
        lambda log: log.of("ledger").pop(_entry(log, "Counted")),
        "commit 2: its entries of what was counted are []",
    ),
    "what was counted doubled": (
        lambda log: _inserted(log, _entry(log, "Counted"), _entry(log, "Counted")),
        "commit 2: its entries of what was counted are",
    ),
    "a refused proposal counted": (_refusal_counted, "commit 4: its entries of what was counted are"),
    "one counted at another time": (
        lambda log: _counted(log, times=[START_MS, START_MS + 11]),
        "commit 3: its entries of what was counted are",
    ),
    "one counted twice": (lambda log: _counted(log, amounts=[1, 2]), "commit 3: its entries of what was counted are"),
    "one forgotten": (
        lambda log: _counted(log, times=[START_MS + 10], amounts=[1]),
        "commit 3: its entries of what was counted are",
    ),
    "what was counted on another version": (
        lambda log: log.alter("ledger", _entry(log, "Counted"), version=2),
        "commit 2: its entries of what was counted are",
    ),
    "what was counted in another transaction": (
        lambda log: log.alter("ledger", _entry(log, "Counted"), sequence=3),
        "commit 2: its entries of what was counted are",
    ),
    "a timer not counted": (
        lambda log: log.of("ledger").pop(_entry(log, "Counted", 2)),
        "its entries of what was counted are []",
    ),
    "what was counted under another key": (
        lambda log: _key(log, "ledger", _entry(log, "Counted"), b"counted/b"),
        "b'counted/b' has what was counted of 'a'",
    ),
    "what was counted deleted early": (
        lambda log: _inserted(log, _entry(log, "Counted"), log.find("ledger", **COMMIT, sequence=5), value=None),
        "b'counted/a' is deleted within the horizon",
    ),
    "what was counted forgotten early": (
        lambda log: _commit_of_tombstone(log, log_time=START_MS + 660_000),
        "the tombstone of b'z' comes within the horizon",
    ),
}
