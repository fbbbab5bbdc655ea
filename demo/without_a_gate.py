"""What the same inputs would have done without a gate: last writer wins. Own code over dicts; nothing here is Placet's.

The definition's file is read as data only: which statuses lead to which, which are final, what names an occasion.

Without a gate an AI reads a row, thinks, and writes the row back: as an ORM's `save()`, a document store's `put` or a
record on a compacted topic do. `whole_row=False` is the kinder world, where each write touches its own columns only
(`UPDATE … SET hold_minutes = …`). Facts always write their own columns only, into the row as it is now.

A world without a gate has rows of its own. A proposal counts only where its AI, at the moment when it really read,
would have read the very same row there; what was sent once more, as a gate had refused or not answered, does not count
either. So what breaks here comes from thinking while the world moves on, and from two minds at one desk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

Row = Mapping[str, Any]
"""A flight: `status` and its fields, but for those of timers."""
OF_TIMERS: Final = frozenset({"tell_by", "told_by_rule"})
"""Without a gate there are no timers, and nobody writes these."""


class Read(NamedTuple):
    """What a proposer had read, and when. `version` is for people."""

    row: Row
    version: int
    at_ms: int


class Input(NamedTuple):
    """One record of the log. Times are milliseconds since the epoch, by the broker's clock.

    `position` counts the inputs of a partition in the log's order. `cause` is what made the proposer think. `read` is
    None for facts. `sent_again` marks the same thought, sent once more by the same proposer.
    """

    position: int
    at_ms: int
    entity: str
    fact: bool
    name: str
    input_id: str
    who: str
    payload: Mapping[str, Any]
    cause: str = ""
    read: Read | None = None
    sent_again: bool = False


class Table(NamedTuple):
    """What a definition says, as data."""

    arrows: frozenset[tuple[str, str]]
    final: frozenset[str]
    occasions: Mapping[str, tuple[str, ...] | None]
    blank: Row

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> Table:
        """Take it from a parsed definition file."""
        final = frozenset(definition.get("final", ()))
        lasting = [status for status in definition["statuses"] if status not in final]
        arrows = set()
        for rule in [*definition["signals"].values(), *definition["proposals"].values()]:
            for way in rule.get("transitions", [rule]):
                sources = lasting if way["from"] == "any" else way["from"]
                for source in [sources] if isinstance(sources, str) else sources:
                    arrows.add((source, way.get("to", source)))
        occasions = {name: _occasion_fields(rule.get("dedup")) for name, rule in definition["proposals"].items()}
        fields = ((name, field) for name, field in definition["fields"].items() if name not in OF_TIMERS)
        blank = {name: field.get("default") if isinstance(field, dict) else None for name, field in fields}
        return cls(frozenset(arrows), final, occasions, {"status": "absent", **blank})


class Rule(NamedTuple):
    """Something that must not happen to a flight, in words that need no Placet."""

    key: str
    title: str
    sentence: str


RULES: Final = (
    Rule(
        "fact_overwritten",
        "A newer fact was overwritten",
        "After the AI had read the flight a fact arrived; the AI's write put another value over it.",
    ),
    Rule(
        "illegal_status",
        "A status change that does not exist",
        "The write moved the flight from one status to another along an arrow that its table does not have.",
    ),
    Rule(
        "final_left",
        "A final state was left",
        "The flight had arrived, was diverted or cancelled, and the write made it something else again.",
    ),
    Rule(
        "occasion_again",
        "One occasion, acted on twice",
        "For one and the same reason passengers were moved, or a flight was held, more than once.",
    ),
    Rule(
        "notified_twice",
        "A message sent twice",
        "Passengers were told that their flight is late once more: a message cannot be unsent.",
    ),
)
NOTIFICATIONS: Final = frozenset({"notify_late"})


class Breach(NamedTuple):
    """A write that broke a rule: what it changed, and the earlier input that it ran over."""

    rule: str
    input: Input
    changed: Mapping[str, tuple[Any, Any]]
    earlier: Input | None


class Watch:
    """Looks at writes, one after the other, and knows of each flight who wrote what. It takes no part in them."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._facts: dict[tuple[str, str], Input] = {}
        self._occasions: dict[tuple[object, ...], Input] = {}

    def see(self, written: Input, before: Row, after: Row) -> list[Breach]:
        """Return the rules that a write breaks, each once. Facts break none: they are what happened."""
        changed = {name: (before.get(name), after[name]) for name in after if before.get(name) != after[name]}
        breaches = [] if written.fact else [*self._of_status(written, changed), *self._of_facts(written, changed)]
        if not written.fact:
            breaches += self._of_occasion(written, changed)
        for name in changed:
            if written.fact:
                self._facts[written.entity, name] = written
            else:
                self._facts.pop((written.entity, name), None)
        return breaches

    def _of_status(self, written: Input, changed: Mapping[str, tuple[Any, Any]]) -> Iterator[Breach]:
        arrow = changed.get("status")
        if arrow is None:
            return
        earlier = self._facts.get((written.entity, "status"))
        if arrow not in self._table.arrows:
            yield Breach("illegal_status", written, changed, earlier)
        if arrow[0] in self._table.final:
            yield Breach("final_left", written, changed, earlier)

    def _of_facts(self, written: Input, changed: Mapping[str, tuple[Any, Any]]) -> Iterator[Breach]:
        """Find the fact, newer than what was read, whose value is gone. One breach for a write, whatever it covers."""
        read_at_ms = written.read.at_ms if written.read else 0
        facts = [self._facts[written.entity, name] for name in changed if (written.entity, name) in self._facts]
        newer = [fact for fact in facts if fact.at_ms > read_at_ms]
        if newer:
            yield Breach("fact_overwritten", written, changed, max(newer, key=lambda fact: fact.position))

    def _of_occasion(self, written: Input, changed: Mapping[str, tuple[Any, Any]]) -> Iterator[Breach]:
        fields = self._table.occasions[written.name]
        key = (written.cause,) if fields is None else tuple(written.payload[name] for name in fields)
        first = self._occasions.setdefault((written.entity, written.name, *key), written)
        if first is not written:
            rule = "notified_twice" if written.name in NOTIFICATIONS else "occasion_again"
            yield Breach(rule, written, changed, first)


class Applied(NamedTuple):
    """What became of inputs without a gate: the rows, the rules that were broken, what counts and what was left out."""

    rows: Mapping[str, Row]
    breaches: list[Breach]
    counted: int
    sent_again: int
    read_otherwise: int


def last_writer_wins(inputs: Iterable[Input], table: Table, *, whole_row: bool) -> Applied:
    """Apply inputs in the order of the log, as they come."""
    rows: dict[str, list[tuple[int, Row]]] = {}
    watch = Watch(table)
    breaches: list[Breach] = []
    counted = sent_again = read_otherwise = 0
    for written in inputs:
        past = rows.setdefault(written.entity, [(0, table.blank)])
        before = basis = past[-1][1]
        if written.read is not None:
            basis = next(row for at_ms, row in reversed(past) if at_ms <= written.read.at_ms)
            sent_again += written.sent_again
            read_otherwise += not written.sent_again and basis != written.read.row
            if written.sent_again or basis != written.read.row:
                continue
            counted += 1
        columns = WRITES[written.name](basis, written.payload)
        after = {**(basis if whole_row else before), **columns}
        breaches += watch.see(written, before, after)
        past.append((written.at_ms, after))
    return Applied(
        {entity: past[-1][1] for entity, past in rows.items()}, breaches, counted, sent_again, read_otherwise
    )


WRITES: Final[dict[str, Callable[[Row, Mapping[str, Any]], dict[str, Any]]]] = {
    "flight_scheduled": lambda _, said: {"status": "scheduled", **said},
    "delay_estimated": lambda _, said: {"expected_delay": said["minutes"]},
    "flight_departed": lambda _, said: {"status": "departed", "dep_delay": said["dep_delay"]},
    "flight_arrived": lambda _, said: {"status": "arrived", "arr_delay": said["arr_delay"]},
    "flight_diverted": lambda *_: {"status": "diverted"},
    "flight_cancelled": lambda *_: {"status": "cancelled"},
    "hold_connection": lambda row, said: {"status": "holding", "hold_minutes": row["hold_minutes"] + said["minutes"]},
    "rebook": lambda row, said: {"rebooked": row["rebooked"] + said["passengers"]},
    "notify_late": lambda *_: {"notified": True},
}
"""The columns that each input writes, computed from the row that its writer knew: what a service would do by itself."""


def _occasion_fields(dedup: object) -> tuple[str, ...] | None:
    """Return the payload's fields that name the occasion; None where what made the proposer think does."""
    if isinstance(dedup, list):
        return tuple(dedup)
    return () if dedup == "once" else None
