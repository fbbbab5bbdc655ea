"""Checks a gate's whole log against what the docs promise; written from docs/, ARCHITECTURE.md and the Avro contracts.

It reads committed records only, in their order, before any compaction. It decides every input again by a judge of its
own (`second_judge`), written without a look at the gate's code: where both agree, two readers of the docs agree.

Of timers it knows which are armed in each entity, when they are due, and which version armed them. Checked:
- each decision of a timer names an armed one, which is armed no more after it, and follows from rungs 7 and 10;
- it comes behind each input of its entity that was appended up to the due time, and before each later one; two timers
  of an entity come in the order of their due times;
- its log time is not below the due time, and passed no undecided input;
- the header `placet-armed`, and the ledger's entries `disarmed/…`: one where a timer fired and changed nothing;
- at the end, if a time is given, none is overdue.

Of windows it knows which the rules in force have, since when each is kept, and what each entity accepted that they
count: inputs and timers, whether they changed something or not. Checked:
- each limit of a proposal, and until when it refuses; what guards and values read;
- the ledger's entries `windows`: one where the windows are others than before, and `counted/…`: one where something was
  counted and changed nothing;
- that nothing of it is forgotten while it may count.

Not checked:
- the content of the hidden headers of a change (their presence is), and the control topic;
- `decided_at` against a clock, and whether a tombstone or the deletion of a memory comes late: only whether early;
- the order of two inputs of different topics with the same time: the docs name none;
- that log time moves on in an idle partition: only that it passes no input, and not `decided_at`;
- how late a timer fires, except at the end; the order of timers of different entities;
- where the time of a topic steps back: on which side of the input a timer fires that was due between the two times;
- the partition of a dead letter.

Where the docs were silent, what the gate's output shows was taken over: `observed` marks these places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

from tests.model.second_decisions import Deciding, Place
from tests.model.second_definition import rules_of
from tests.model.second_judge import AHEAD_MS, NEVER_SEEN, Message
from tests.model.second_log import (
    CONTRACTS,
    TOPICS,
    History,
    LoggedRecord,
    Row,
    Transaction,
    cause_of,
    decoded,
    partition_of,
    transactions,
)
from tests.model.second_timers import FiringOrder

__all__ = ["History", "LoggedRecord", "check"]


def check(history: History, *, settled: bool, now_ms: int | None = None) -> list[str]:
    """Return a sentence for each violation.

    Args:
        history: the committed log.
        settled: nothing fails any more, and every input should be decided.
        now_ms: each timer that was due before this time should have fired. None: none has to.
    """
    found: list[str] = []
    prefix = f"{history.app}.{history.entity}."
    counts = {name: len(history.topics.get(prefix + name, ())) for name in TOPICS}
    if len(set(counts.values())) != 1:
        return [f"the topics differ in their numbers of partitions: {counts}"]
    definitions: set[bytes] = set()
    dead: dict[tuple[str, int, int], tuple[LoggedRecord, Row, LoggedRecord]] = {}
    for partition in range(counts["signals"]):
        task = _Task(history, prefix, partition, counts["signals"], found.append)
        task.check(settled=settled)
        if now_ms is not None:
            task.check_overdue(now_ms)
        definitions |= task.definitions
        dead |= task.deciding.dead
    if len(definitions) > 1 + len(history.others):
        found.append(f"one definition has {len(definitions)} digests")
    letters = history.topics.get(f"{history.app}.dead-letters")
    if letters is not None:
        _check_dead((each for part in letters for each in part), dead, prefix, found.append)
    return found


def _check_dead(
    letters: Iterable[LoggedRecord],
    dead: dict[tuple[str, int, int], tuple[LoggedRecord, Row, LoggedRecord]],
    prefix: str,
    say: Callable[[str], None],
) -> None:
    """Each input that did not decode has one dead letter, in the transaction of its decision."""
    for record in letters:
        letter = decoded(record.value, CONTRACTS["dead_letter"])
        if letter is None or not letter["topic"].startswith(prefix):
            continue  # another entity type's
        place = letter["topic"], letter["partition"], letter["offset"]
        if place not in dead:
            say(f"the dead letter of {place} belongs to no decision, or is the second")
            continue
        written, decision, taken = dead.pop(place)
        same = all(letter[name] == decision[name] for name in ("reason", "reason_code", "log_time", "detail"))
        held = [letter["key"], letter["value"], letter["value_size"], record.key]
        size = -1 if taken.value is None else len(taken.value)
        if written.producer != record.producer or not same:
            say(f"the dead letter of {place} is not that of its decision")
        elif held != [taken.key, taken.value, size, taken.key]:
            say(f"the dead letter of {place} does not hold the input")
    for place in dead:
        say(f"the input {place} did not decode, and has no dead letter")


class _Task:
    """One partition of all topics, walked commit by commit."""

    def __init__(self, history: History, prefix: str, partition: int, count: int, say: Callable[[str], None]) -> None:
        self._history, self._partition, self._count, self._tell = history, partition, count, say
        self._logs = {name: history.topics[prefix + name][partition] for name in TOPICS}
        self._names = [prefix + name for name in TOPICS]
        self._control = f"{history.app}.control"
        self._kinds = {prefix + "signals": "SIGNAL", prefix + "proposals": "PROPOSAL"}
        self._inputs = {
            topic: {each.offset: each for each in history.topics[topic][partition]} for topic in self._kinds
        }
        self._rules = rules_of(history.definition)
        self._others = {digest: rules_of(text) for digest, text in history.others.items()}
        self._first = self._rules
        self.deciding = Deciding(self._rules, self._others.values(), self._say)
        self._compare = self.deciding.compare
        self._commit: Row | None = None
        self._at = dict.fromkeys(self._kinds, 0)  # the positions after the last commit
        self._kept: dict[bytes | None, tuple[str, Row]] = {}  # the ledger's memory
        self._windows: list[Row] = []  # as the ledger has them
        self._memory_since = 0
        self._order = FiringOrder(self._inputs, self._say)
        self.definitions: set[bytes] = set()

    def _say(self, text: str) -> None:
        self._tell(f"partition {self._partition}: {text}")

    def check(self, *, settled: bool) -> None:
        """Walk the commits in their order; then compare with the group's positions."""
        found, ledger = transactions(
            self._logs, [each.schemas["CHANGE"] for each in (self._first, *self._others.values())], self._say
        )
        places = Counter(
            (row["topic"], row["offset"])
            for each in found.values()
            for _, row in each.decisions
            if row["timer"] is None
        )
        commits = [(record, row) for record, kind, row in ledger if kind == "Commit"]
        self._check_order([record.producer for record, _ in commits])
        self._check_genesis(ledger, commits[0][0].producer if commits else None)
        for record, commit in commits:
            taken = found.pop(record.producer, None)
            if taken is None:
                self._say(f"a transaction has two commits, the second with sequence {commit['sequence']}")
                continue
            self._check_chain(commit)
            self._check_transaction(commit, taken)
            self._commit, self._at = commit, {span["topic"]: span["end"] for span in commit["spans"]}
        for left in found.values():
            if (
                [kind for _, kind, _ in left.entries] != ["Genesis"]
                or left.decisions
                or left.changes
                or left.tombstones
            ):
                self._say("records of a transaction lie there without its commit")
        self._check_positions(places, settled=settled)

    def _check_order(self, producers: list[int]) -> None:
        """The records of a transaction lie together, and transactions in the order of their commits."""
        order = {producer: number for number, producer in enumerate(producers)}
        for (name, log), topic in zip(self._logs.items(), self._names, strict=True):
            newest, offset = -1, -1
            for record in log:
                if record.offset <= offset:
                    self._say(f"the offsets of the {name} do not ascend at {record.offset}")
                offset = record.offset
                number = order.get(record.producer, newest)
                if topic not in self._kinds and number < newest:
                    self._say(f"record {offset} of the {name} lies behind those of a later commit")
                newest = max(newest, number)
            if offset >= self._history.ends.get((topic, self._partition), offset + 1):
                self._say(f"record {offset} of the {name} lies behind the topic's end")

    def _check_genesis(self, ledger: list[tuple[LoggedRecord, str, Row]], first: int | None) -> None:
        """One genesis, before the first commit. Observed: memory of the first transaction may lie before it."""
        kinds = [kind for _, kind, _ in ledger if kind in ("Genesis", "Commit")]
        names = set(self._names)  # earlier releases did not name the control topic
        if kinds and (kinds[0] != "Genesis" or "Genesis" in kinds[1:]):
            self._say("the ledger has not one genesis, before its first commit")
        for record, kind, row in ledger[: next((n for n, each in enumerate(ledger) if each[1] == "Genesis"), 0) + 1]:
            if kind == "Genesis":
                self._memory_since = row["memory_since"]
            if kind != "Genesis" and record.producer != first:
                self._say(f"record {record.offset} of the ledger lies before the genesis")
            elif kind == "Genesis" and (
                row["partitions"] != self._count or row["topic_ids"].keys() not in (names, {*names, self._control})
            ):
                self._say("the genesis names other topics or another number of partitions")

    def _check_chain(self, commit: Row) -> None:
        """Each commit links to the one before it."""
        before, what = self._commit, f"commit {commit['sequence']}"
        wanted = {"sequence": 1, "previous": b""}  # observed: counting begins at 1, and goes on over task epochs
        if before is not None:
            wanted = {"sequence": before["sequence"] + 1, "previous": before["digest"]}
            for name in ("task_epoch", "log_time", "control_position"):
                if commit[name] < before[name]:
                    self._say(f"{what}: {name} goes down, from {before[name]} to {commit[name]}")
        self._compare(what, commit, wanted)
        if sorted(span["topic"] for span in commit["spans"]) != sorted(self._kinds):
            self._say(f"{what}: it does not span the two inputs")
        for span in commit["spans"]:
            topic, start, end = span["topic"], span["start"], span["end"]
            if start != self._at.get(topic) or end < start:
                self._say(f"{what}: it takes {topic} from {start} to {end}, after {self._at.get(topic)}")
            if end > self._history.ends.get((topic, self._partition), end):
                self._say(f"{what}: it takes {topic} to {end}, behind its end")

    def _check_transaction(self, commit: Row, taken: Transaction) -> None:
        """The commit covers exactly what its transaction wrote, and that follows from the inputs."""
        what = f"commit {commit['sequence']}"
        self._rules = self.deciding.judge.rules = self._others.get(commit["definition_digest"], self._first)
        cites: dict[tuple[str, Any], tuple[LoggedRecord, Row]] = {}
        self.definitions.add(commit["definition_digest"])
        counts = {"decisions": len(taken.decisions), "changes": len(taken.changes)}  # observed: no tombstones
        self._compare(what, commit, counts)
        for record, row in taken.changes:
            place = cause_of(row, "placet_")
            if cites.setdefault(place, (record, row))[0] is not record:
                self._say(f"{what}: two changes by {place}")
        for record in [*(each for each, _ in taken.changes), *taken.tombstones]:
            if record.key is None or partition_of(record.key, self._count) != self._partition:
                self._say(f"{what}: the changelog's record {record.offset} has a key of another partition")
        self._check_taken(what, commit, taken)
        self._check_windows(what, commit, taken)
        digest, used = blake2b(digest_size=16), []
        applied: list[tuple[Row, Message]] = []
        disarmed: list[Row] = []
        for index, (record, decision) in enumerate(taken.decisions):
            cited = cites.get(cause_of(decision))
            if decision["outcome"] == "ACCEPTED" and decision["changed"] and cited is not None:
                used.append(cited[0])
                digest.update((cited[0].key or b"") + (cited[0].value or b""))
            digest.update((record.key or b"") + (record.value or b""))
            if decision["timer"] is not None:
                self._order.check_log_time(decision, self.deciding.log_time, commit["spans"])
                if self.deciding.fire(commit, index, (record, decision), self._partition, cited):
                    disarmed.append(decision)
                continue
            topic, offset = decision["topic"], decision["offset"]
            asked = self._inputs.get(topic, {}).get(offset)
            if asked is not None:
                read_to = self._order.take(topic, offset)
                at = Place(self._kinds[topic], topic, self._partition, self._count, read_to)
                applied += self.deciding.check(commit, index, (record, decision), asked, at, cited)
        if [record.offset for record, _ in taken.changes] != [record.offset for record in used]:
            self._say(f"{what}: its changes are not those of its accepted decisions, in their order")
        for record in taken.tombstones:
            digest.update(record.key or b"")
        if digest.digest() != commit["digest"]:  # observed: key and value, each change before its decision
            self._say(f"{what}: its digest is not that of its decisions and changes")
        self._check_times(what, commit)
        self._check_memory(what, commit, taken, applied)
        self._check_counted(what, commit, taken)
        self._check_deleted(what, commit, taken, self._check_disarmed(what, commit, taken, disarmed))
        self._check_tombstones(what, commit, taken)

    def _check_taken(self, what: str, commit: Row, taken: Transaction) -> None:
        """Each input of the spans has one decision here; inputs are decided in their order, by offset and by time."""
        for span in commit["spans"]:
            topic, start, end = span["topic"], span["start"], span["end"]
            wanted = [offset for offset in self._inputs.get(topic, ()) if start <= offset < end]
            actual = [row["offset"] for _, row in taken.decisions if row["topic"] == topic]
            if actual != wanted:
                self._say(f"{what}: of {topic} it decided {actual}, its span holds {wanted}")
        newest, floor = dict.fromkeys(self._kinds, 0), self.deciding.log_time
        before: tuple[str, int, int] | None = None  # the topic, the input's time, the newest time of its topic
        for _, row in taken.decisions:
            asked = self._inputs.get(row["topic"], {}).get(row["offset"])
            if asked is None:
                continue
            time = newest[row["topic"]] = max(newest[row["topic"]], asked.timestamp)
            if (
                before is not None
                and before[0] != row["topic"]
                and before[1] > max(asked.timestamp, floor)
                and before[2] > time
            ):
                self._say(f"{what}: the input {row['topic']}@{row['offset']} was decided after a later one")
            before = row["topic"], asked.timestamp, time

    def _check_times(self, what: str, commit: Row) -> None:
        self._compare(what, commit, {"watermark": self.deciding.watermark})
        if commit["log_time"] < self.deciding.log_time:
            self._say(
                f"{what}: its log time is {commit['log_time']}, below that of its inputs, {self.deciding.log_time}"
            )
        elif commit["log_time"] > self.deciding.log_time:
            ends = {span["topic"]: span["end"] for span in commit["spans"]}
            for topic, inputs in self._inputs.items():
                for record in inputs.values():
                    if record.offset >= ends.get(topic, 0) and record.timestamp < commit["log_time"]:
                        self._say(f"{what}: log time passed the undecided input {topic}@{record.offset}")
            if commit["log_time"] > commit["decided_at"]:
                self._say(f"{what}: log time went on without inputs, beyond the time of decision")
        self.deciding.log_time = max(self.deciding.log_time, commit["log_time"])

    def _check_memory(self, what: str, commit: Row, taken: Transaction, applied: list[tuple[Row, Message]]) -> None:
        """Each accepted input that changed nothing is remembered on the ledger, and nothing else is."""
        shared = {"task_epoch": commit["task_epoch"], "sequence": commit["sequence"]}
        # Two of one occasion may be accepted in one transaction: where a horizon lies between them.
        kept: dict[tuple[str, str, str], list[Row]] = {}
        for row, _ in applied:
            if row["dedup_key"]:
                kept.setdefault((row["kind"], row["entity_id"], row["dedup_key"]), []).append(row)
        for record, entry in taken.entries_of("MemoryEntry"):
            kind = {1: "SIGNAL", 2: "PROPOSAL"}.get(entry["kind"], "")
            rows = kept.get((kind, entry["entity_id"], entry["dedup_key"]))
            if not rows:
                self._say(f"{what}: the memory {record.key!r} is of no input that was accepted and changed nothing")
                continue
            self._compare(f"{what}: a memory", entry, shared)
            self._compare(f"{what}: a memory", entry["memory"], _memory(rows.pop(0)))
            self._kept[record.key] = ("memory", entry)
        for key, rows in kept.items():
            if rows:
                self._say(f"{what}: no memory is kept of {key}")
        newest = {self._identity(row) for row, message in applied if self.deciding.is_newest(row, message)}
        for record, entry in taken.entries_of("AppliedEntry"):
            said = entry["entity_id"], entry["name"], entry["applied"]["input_id"]
            found = [each for each in applied if self._identity(each[0]) == said]
            if not found:
                self._say(f"{what}: {record.key!r} is of no input that was accepted and changed nothing")
                continue
            happened = entry["applied"]["event_time"]
            row, message = next((each for each in found if each[1].event_time == happened), found[-1])
            self._compare(f"{what}: the newest", entry, shared | {"incarnation": row["incarnation"]})
            self._compare(f"{what}: the newest", entry["applied"], _memory(row) | {"event_time": message.event_time})
            self._kept[record.key] = ("applied", entry)
            newest.discard(said)
        for said in newest:
            self._say(f"{what}: no entry keeps the newest applied input {said}")

    def _check_windows(self, what: str, commit: Row, taken: Transaction) -> None:
        """The ledger says since when each window of the rules is kept, where they are others than those before."""
        begin = self.deciding.log_time + 1
        complete = max(begin, self._memory_since if self._commit is None else 0)
        known = {each["name"]: each for each in self._windows}
        kept: list[Row] = []
        for window in self._rules.windows.values():
            before, times = known.get(window.name), {"since": begin, "complete_since": complete}
            if before is not None and before["what"] == window.what:
                known_from = 0 if before["within_ms"] >= window.within else begin - before["within_ms"]
                times = {name: max(before[name], known_from) for name in times}
            kept.append({"name": window.name, "what": window.what, "within_ms": window.within, **times})
        shared = {"task_epoch": commit["task_epoch"], "sequence": commit["sequence"]}
        wanted = [{"windows": kept, **shared}] if kept != self._windows else []
        found = [row for _, row in taken.entries_of("Windows")]
        if found != wanted:
            self._say(f"{what}: its entries of windows are {found}, not {wanted}")
        self._windows = kept
        self.deciding.judge.kept = {each["name"]: each for each in kept}
        self.deciding.counted = []

    def _check_counted(self, what: str, commit: Row, taken: Transaction) -> None:
        """The ledger has what windows hold after each input that they count and that changed nothing."""
        shared = {"task_epoch": commit["task_epoch"], "sequence": commit["sequence"]}
        wanted, found = [{**row, **shared} for row in self.deciding.counted], taken.entries_of("Counted")
        if [row for _, row in found] != wanted:
            self._say(f"{what}: its entries of what was counted are {[row for _, row in found]}, not {wanted}")
        for record, row in found:
            if record.key != f"counted/{row['entity_id']}".encode():
                self._say(f"{what}: {record.key!r} has what was counted of {row['entity_id']!r}")
            self._kept[record.key] = ("counted", row)

    def _check_disarmed(self, what: str, commit: Row, taken: Transaction, disarmed: list[Row]) -> dict[int, Row]:
        """The ledger says of each timer that fired and changed nothing that it is armed no more, and of no other.

        Returns:
            the decisions that the entries are about, by the entries' offsets.
        """
        shared = {"task_epoch": commit["task_epoch"], "sequence": commit["sequence"]}
        found: dict[int, Row] = {}
        wanted: dict[bytes, list[Row]] = {}  # one may fire twice in a transaction, if an input arms it in between
        for row in disarmed:
            wanted.setdefault(f"disarmed/{row['entity_id']}/{row['name']}".encode(), []).append(row)
        for record, entry in taken.entries_of("Disarmed"):
            rows = wanted.get(record.key or b"")
            if not rows:
                self._say(f"{what}: {record.key!r} is of no timer that fired and changed nothing, or is the second")
                continue
            row = found[record.offset] = rows.pop(0)
            said = {"entity_id": row["entity_id"], "name": row["name"], **row["timer"]}
            self._compare(f"{what}: {record.key!r}", entry, said | shared)
        for key, rows in wanted.items():
            if rows:
                self._say(f"{what}: {key!r} is missing: a timer fired and changed nothing")
        return found

    def _check_deleted(self, what: str, commit: Row, taken: Transaction, disarmed: dict[int, Row]) -> None:
        """The ledger forgets nothing too early."""
        gone = {record.key for record in taken.tombstones}
        for record, name, _ in taken.entries:
            if record.offset in disarmed:
                self._kept[record.key] = ("disarmed", disarmed[record.offset])
            if name:
                continue
            kind, entry = self._kept.pop(record.key, ("", {}))
            if kind == "memory" and commit["log_time"] - entry["memory"]["log_time"] <= self._rules.horizon + AHEAD_MS:
                self._say(f"{what}: the memory {record.key!r} is deleted within the horizon")
            elif kind == "counted" and not (
                entry["entity_id"].encode() in gone
                or commit["log_time"] - entry["log_time"] > self._rules.horizon + AHEAD_MS
            ):
                self._say(f"{what}: {record.key!r} is deleted within the horizon")
            elif kind == "applied" and entry["entity_id"].encode() not in gone:
                self._say(f"{what}: {record.key!r} is deleted, and its entity is not")
            elif kind == "disarmed":
                entity = self.deciding.judge.entities.get(entry["entity_id"], NEVER_SEEN)
                then = entry["incarnation"], entry["version_after"]
                if (entity.incarnation, entity.version) == then:
                    self._say(f"{what}: {record.key!r} is deleted, and its entity has no later change")

    @staticmethod
    def _identity(row: Row) -> tuple[str, str, str]:
        return row["entity_id"], row["name"], row["input_id"]

    def _check_tombstones(self, what: str, commit: Row, taken: Transaction) -> None:
        """A deleted entity is forgotten a horizon later, never before. Observed: and `AHEAD_MS` more."""
        for record in taken.tombstones:
            entity = self.deciding.judge.entities.pop((record.key or b"").decode(errors="replace"), NEVER_SEEN)
            wanted = f"{entity.version}/{commit['task_epoch']}/{commit['sequence']}".encode()
            times = [each.log_time for each in entity.applied.values()]
            times += [amounts[-1].time for amounts in entity.counted.values()]
            if entity.status != "absent" or entity is NEVER_SEEN:
                self._say(f"{what}: the tombstone of {record.key!r}, which is not deleted")
            elif commit["log_time"] - max(entity.deleted_at or 0, *times, 0) <= self._rules.horizon + AHEAD_MS:
                self._say(f"{what}: the tombstone of {record.key!r} comes within the horizon")
            if dict(record.headers).get("placet-tombstone") != wanted:
                self._say(f"{what}: the tombstone of {record.key!r} says {record.headers}, not {wanted!r}")

    def _check_positions(self, places: Counter[tuple[str, int]], *, settled: bool) -> None:
        """Below the group's position each input has one decision, above it none; the ledger ends at that position."""
        for topic, inputs in self._inputs.items():
            position = self._history.positions.get((topic, self._partition), 0)
            if position != self._at.get(topic) and (
                self._commit is not None or any(each < position for each in inputs)
            ):
                self._say(f"the group's position in {topic} is {position}, the ledger's {self._at.get(topic)}")
            for offset in inputs:
                count = places.pop((topic, offset), 0)
                if count != (offset < position):
                    self._say(f"the input {topic}@{offset} has {count} decisions, with the position at {position}")
                elif settled and not count:
                    self._say(f"the input {topic}@{offset} has no decision, and all is settled")
                if offset >= position:
                    self._check_waiting(topic, offset)
        for topic, offset in places:
            self._say(f"a decision on {topic}@{offset}, which is no input")

    def _check_waiting(self, topic: str, offset: int) -> None:
        """No timer fired that has to wait for this undecided input."""
        asked, kind = self._inputs[topic][offset], self._kinds[topic]
        fault, message = self.deciding.judge.read(kind, asked.key, asked.value, self._partition, self._count)
        if message is not None and not fault:
            self.deciding.check_in_time(f"{topic}@{offset}", message, self._order.read_to[topic][offset])

    def check_overdue(self, now_ms: int) -> None:
        """Each timer that was due has fired."""
        for entity_id, entity in self.deciding.judge.entities.items():
            for name, armed in entity.armed.items():
                if armed.due < now_ms:
                    self._say(f"the timer {name!r} of {entity_id!r} was due at {armed.due}, and has not fired")


def _memory(row: Row) -> dict[str, Any]:
    names = ("payload_digest", "input_id", "log_time")
    return {name: row[name] for name in names} | {"version": row["version_after"]}
