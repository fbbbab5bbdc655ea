"""Honest histories for the second checker, from the public test driver.

Each transaction of the test driver is one call: the records that a call adds have one producer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from placet.definitions import parse_definition
from placet.schemas.messages import Kind, Message
from placet.streams.records import TopicPartition
from placet.testing import TestDriver
from tests.model.second_checker import History, LoggedRecord
from tests.model.second_log import partition_of

__all__ = ["LIMITED", "RICH", "TICKING", "Recorded", "limited", "rationed", "rich", "ticking", "timed", "told"]

RICH = """
entity: lamp
version: 1
horizon: 10m
statuses: [off, lit, broken]
final: [broken]
fields: {watts: {type: int, default: 5}, note: string | null, hits: {type: int, default: 0}, owner: string}
signals:
  installed: {payload: {watts: int, owner: string}, from: absent, to: off, copy: [watts, owner]}
  changed: {payload: {watts: int}, from: any, copy: watts}
  read: {payload: {watts: int}, late: refuse, from: [off, lit], copy: watts}
  newest: {payload: {watts: int}, dedup: newest, from: any, copy: watts}
  noted: {payload: {note: string}, dedup: [note], from: any, copy: note}
  sold: {payload: {owner: string}, dedup: once, from: any, copy: owner}
  broke: {from: lit, to: broken}
  removed: {from: [off, lit, broken], to: absent}
proposals:
  light: {from: off, to: lit, valid_for: 60s, guard: state.watts > 2 || state.note == 'x'}
  dim:
    fence: [status, watts]
    transitions:
      - {from: lit, to: off, guard: state.watts <= 2}
      - {from: lit, set: {watts: state.watts - 1}}
  hit: {payload: {times: int}, fence: none, from: any, set: {hits: state.hits + payload.times}}
  own: {fence: [owner], dedup: once, from: any, set: {owner: proposer, note: "'owned'"}}
  build: {payload: {owner: string}, from: absent, to: lit, copy: owner, fence: none}
  scrap: {from: any, to: absent, fence: [hits]}
invariants:
  few: state.hits <= 8
"""

TICKING = """
entity: lamp
version: 1
horizon: 10m
statuses: [off, lit, dim, broken]
final: [broken]
fields: {until: timestamp | null, hits: {type: int, default: 0}}
signals:
  installed: {payload: {hits: int}, from: absent, to: off, copy: hits}
  lit: {from: [off, dim, lit], to: lit}
  hit: {payload: {hits: int}, from: any, copy: hits}
  till: {payload: {until: timestamp | null}, from: any, copy: until}
  broke: {from: lit, to: broken}
  removed: {from: [off, lit, dim, broken], to: absent}
proposals:
  dim: {from: lit, to: dim}
  touch: {from: any, fence: none}
timers:
  forgotten: {from: lit, after: 1s, to: dim, guard: state.hits > 0}
  wears: {from: [lit, dim], after: 1500ms, set: {hits: state.hits + 1}}
  ends:
    at: state.until
    transitions:
      - {from: [lit, dim], to: off, guard: state.hits > 2, set: {until: null}}
      - {from: lit, set: {hits: 0, until: "event_time + duration('40s')"}}
  waits: {from: dim, after: 2s, to: dim}
  again: {from: off, at: state.until, guard: state.hits < 4, set: {until: event_time, hits: state.hits + 1}}
  breaks: {from: any, after: 10s, to: broken, guard: state.hits > 6}
  vanishes: {from: broken, after: 1m, to: absent}
invariants:
  few: state.hits <= 8
"""
LIMITED = """
entity: lamp
version: 1
horizon: 10m
statuses: [off, lit]
fields: {spent: {type: long, default: 0}, note: string | null}
signals:
  installed: {from: absent, to: off}
  seen: {from: [off, lit, absent]}
  noted: {payload: {note: string}, from: any, copy: note, guard: window.notes < 3}
  removed: {from: [off, lit], to: absent}
proposals:
  light: {from: off, to: lit, fence: none, limits: window.lights < 2}
  dim: {from: lit, to: off, fence: none}
  alert: {from: any, fence: none, limits: ["window.alerts < 2", "window.sights < 4 || window.alerts < 1"]}
  spend:
    payload: {minor: long}
    fence: none
    from: any
    limits: window.spent + payload.minor <= 9
    set: {spent: window.spent + payload.minor}
timers:
  fades: {from: lit, after: 2s, to: off, guard: window.fades < 2}
  ticks: {from: lit, after: 1s, guard: window.ticks < 3}
windows:
  lights: {count: light, within: 5s}
  alerts: {count: alert, within: 3s}
  sights: {count: seen, within: 4s}
  notes: {count: noted, within: 6s, by: proposer}
  spent: {sum: spend.minor, within: 8s, by: proposer}
  all_spent: {sum: spend.minor, within: 10m}
  fades: {count: fades, within: 30s}
  ticks: {count: ticks, within: 8s}
  long_alerts: {count: alert, within: 1m}
"""
_OTHER_WINDOWS = (
    ("version: 1", "version: 2"),
    ("guard: window.notes < 3", "guard: window.sights < 5"),
    ("  notes: {count: noted, within: 6s, by: proposer}\n", ""),
    ("alerts: {count: alert, within: 3s}", "alerts: {count: alert, within: 6s}"),
    ("lights: {count: light, within: 5s}", "lights: {count: light, within: 4s}"),
    ("sights: {count: seen, within: 4s}", "sights: {count: seen, within: 20s, start: empty}"),
    ("fades: {count: fades, within: 30s}", "fades: {count: ticks, within: 30s}"),
)
_OTHER_TIMERS = (
    ("version: 1", "version: 2"),
    ("  forgotten: {from: lit, after: 1s, to: dim, guard: state.hits > 0}\n", ""),
    ("from: [lit, dim], after: 1500ms", "from: lit, after: 5s"),
    ("from: dim, after: 2s, to: dim", "from: [off, dim], at: state.until, to: lit"),
)


class Recorded:
    """A test driver, and what it wrote."""

    def __init__(self, definition: str, partitions: int) -> None:
        self.driver = TestDriver(parse_definition(definition), partitions=partitions)
        self.definition, self.partitions = definition, partitions
        self.others: dict[bytes, str] = {}
        self.places = [TopicPartition(topic, each) for topic in self.driver.topics for each in range(partitions)]
        self.places.append(TopicPartition("test.dead-letters", 0))
        self.idle_ms = self.driver.now_ms  # to where log time went on without inputs: no broker gives an earlier time
        self.looked_ms = self.driver.now_ms  # when the gate may have asked last whether anything waits

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        before = self._written()
        result = getattr(self.driver, method)(*args, **kwargs)
        written = self._written() > before
        self.looked_ms = self.driver.now_ms
        if method == "advance" and written:
            self.idle_ms = self.driver.now_ms
        return result

    def sleep(self, milliseconds: int) -> None:
        """Let time pass without the gate: what is due meanwhile waits."""
        self.driver._gate._scheduler.start_ns += milliseconds * 1_000_000

    def follow(self, definition: str) -> None:
        """Start the gate anew with other rules."""
        rules = parse_definition(definition)
        self.others[rules.digest] = definition
        self("restart", rules)

    def put(self, message: Message, age: int = 0, **record: bytes | None) -> None:
        """Put an input on its topic, with the time that a broker gave it; `run` decides it.

        Args:
            message: the input.
            age: how long ago the broker stamped it.
            record: a `key` or `value` other than those of the message.
        """
        driver, own = self.driver, message.entity_id.encode()
        topic = driver.topics.signals if message.kind is Kind.SIGNAL else driver.topics.proposals
        place = TopicPartition(topic, partition_of(own, self.partitions))
        value = record.get("value", driver.codec.encode_message(message))
        driver.log.append(place, driver.now_ms - age, record.get("key", own), value)

    def _written(self) -> int:
        return sum(len(self.driver.log.records(place)) for place in self.places)

    def _transactions(self) -> dict[TopicPartition, dict[int, int]]:
        """Return the transaction of each record, counted from 1; 0 for inputs."""
        entries = {place: self.driver._gate._cluster.log(place).history() for place in self.places}
        names = sorted(
            {(one.producer_id, one.transaction) for of in entries.values() for one in of if one.producer_id > 0}
        )
        numbers = {name: number for number, name in enumerate(names, 1)}
        return {
            place: {one.offset: numbers.get((one.producer_id, one.transaction), 0) for one in of}
            for place, of in entries.items()
        }

    def history(self) -> History:
        """Return all that lies on the topics."""
        log, topics = self.driver.log, self.driver.topics
        found: dict[str, list[tuple[LoggedRecord, ...]]] = {place.topic: [] for place in self.places}
        for place, transactions in self._transactions().items():
            found[place.topic].append(
                tuple(
                    LoggedRecord(r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ()), transactions[r.offset])
                    for r in log.records(place)
                )
            )
        inputs = [place for place in self.places if place.topic in (topics.signals, topics.proposals)]
        positions = {
            (place.topic, place.partition): at for place, at in log.committed(inputs).items() if at is not None
        }
        ends = {(place.topic, place.partition): log.end(place) for place in inputs}
        return History(found, positions, ends, "test", "lamp", self.definition, self.others)


def _message(draw: random.Random, driver: TestDriver, number: int) -> Message:
    """Return an input of the rich lamp; many are late, stale, repeated or illegal."""
    kind = draw.choice((Kind.SIGNAL, Kind.PROPOSAL))
    entity = draw.choice(("a", "b", "c", "lamp-7"))
    state, now = driver.read(entity), driver.now_ms
    issued_at = now - draw.choice((*[0] * 24, 5, 59_999, 60_001, 600_000, 600_001, -60_000, -60_001))
    shared: dict[str, Any] = {
        "input_id": f"i-{draw.choice((number, number, draw.randrange(number + 1)))}",
        "dedup_key": draw.choice((None, None, f"k-{draw.randrange(12)}")),
        "issued_at": issued_at,
    }
    payloads: dict[str, dict[str, Any]] = {
        "installed": {"watts": draw.randrange(8), "owner": "o"},
        "changed": {"watts": draw.randrange(8)},
        "read": {"watts": draw.randrange(8)},
        "newest": {"watts": draw.randrange(4)},
        "noted": {"note": draw.choice("xyzé")},
        "sold": {"owner": draw.choice("op")},
        "hit": {"times": draw.choice((0, 1, 3, -1, 2_000_000_000))},
        "build": {"owner": "b"},
    }
    if kind is Kind.SIGNAL:
        names = ("installed", "installed", "changed", "read", "newest", "noted", "sold", "broke", "removed")
        name = draw.choice(names if state.status != "absent" else ("installed", "installed", *names))
        event_time = now - draw.choice((*[0] * 10, 1, 2, 3, 1_000, -60_000, -60_001))
        return Message(kind, name, entity_id=entity, payload=payloads.get(name, {}), event_time=event_time, **shared)
    name = draw.choice(("light", "light", "dim", "dim", "hit", "hit", "own", "build", "scrap"))
    return Message(
        kind,
        name,
        entity_id=entity,
        payload=payloads.get(name, {}),
        event_time=issued_at,
        caused_by=draw.choice((None, *[f"cause-{draw.randrange(30)}"] * 5)),
        valid_until=draw.choice((*[None] * 8, now, now - 1)),
        base_version=max(0, state.version - draw.choice((*[0] * 8, 1, 2, 4, -1))),
        base_incarnation=draw.choice((None, *[state.incarnation] * 6, 1)),
        proposer=draw.choice(("p", "q")),
        **shared,
    )


def rich(seed: int, inputs: int = 40) -> Recorded:
    """A random history: batches of several inputs, restarts, hostile bytes, idle times that outlast the horizon."""
    draw = random.Random(seed)
    gate = Recorded(RICH, draw.choice((1, 2, 3)))
    number = 0
    while number < inputs:
        for _ in range(draw.choice((1, 1, 2, 3, 6))):
            number += 1
            age = min(draw.choice((0, 0, 0, 3, 700)), gate.driver.now_ms - gate.idle_ms)
            gate.put(_message(draw, gate.driver, number), age)
        gate("run")
        gate("advance", milliseconds=draw.choice((0, 1, 2, 500, 30_000)))
        unlikely = draw.randrange(40)
        if unlikely == 0:
            gate("advance", milliseconds=draw.choice((599_999, 660_000, 660_001, 700_000)))
        elif unlikely == 1:
            gate("restart")
        elif unlikely == 2:
            gate("send_raw", draw.choice(list(Kind)), draw.choice((b"a", b"", None, b"\xff")), _hostile(draw, gate))
        elif unlikely == 3:
            gate("send_raw", Kind.SIGNAL, b"a", _hostile(draw, gate), partition=draw.randrange(gate.partitions))
    gate("run")
    return gate


def _hostile(draw: random.Random, gate: Recorded) -> bytes | None:
    message = Message(
        Kind.SIGNAL, "changed", "h", draw.choice("ab"), {"watts": 1}, gate.driver.now_ms, gate.driver.now_ms
    )
    value = gate.driver.codec.encode_message(message)
    return draw.choice(
        (None, b"", b"{}", value, value[:-1], value + b"x", value[:1] + b"\2" + value[2:], b"\xc3\1" + value)
    )


def told() -> Recorded:
    """A short history in which each kind of output occurs: what a lie is planted in."""
    gate = Recorded(RICH, 1)
    gate("signal", "a", "installed", {"watts": 3, "owner": "o"}, signal_id="s-1")
    gate("signal", "a", "changed", {"watts": 4}, signal_id="s-2")
    gate("signal", "a", "changed", {"watts": 4}, signal_id="s-2")  # a duplicate
    gate("signal", "a", "changed", {"watts": 4}, signal_id="s-3")  # changes nothing: memory on the ledger
    seen = gate.driver.read("a")
    gate("propose", "a", "light", base=seen, dedup_key="p-1")
    gate("propose", "a", "light", base=seen, dedup_key="p-2")  # illegal
    gate("propose", "a", "dim", base=seen, dedup_key="p-3")  # stale
    gate("propose", "a", "hit", {"times": 9}, dedup_key="p-4")  # breaks an invariant
    gate("restart")
    gate("send_raw", Kind.SIGNAL, b"a", b"{}")  # a dead letter
    now = gate.driver.now_ms
    gate.driver.advance(milliseconds=5)
    gate.put(Message(Kind.SIGNAL, "changed", "s-4", "a", {"watts": 5}, now, now), age=3)
    gate.put(Message(Kind.PROPOSAL, "hit", "p-5", "a", {"times": 1}, now, now, dedup_key="p-5"), age=2)
    gate.put(Message(Kind.SIGNAL, "changed", "s-5", "a", {"watts": 6}, now, now), age=1)
    gate("run")
    gate("signal", "a", "removed", signal_id="s-6")
    gate("signal", "b", "installed", {"watts": 3, "owner": "o"}, signal_id="s-7")
    gate("signal", "b", "newest", {"watts": 1}, signal_id="s-8")
    gate("advance", milliseconds=660_001)  # a tombstone, and memory is deleted
    gate("signal", "b", "changed", {"watts": 2}, signal_id="s-9")
    gate("propose", "b", "light", proposal_id="p-6")  # names no occasion
    return gate


def ticking(seed: int, inputs: int = 40) -> Recorded:
    """A random history with timers: inputs before and after their due times, outages, restarts, other rules."""
    draw = random.Random(seed)
    gate = Recorded(TICKING, draw.choice((1, 2)))
    number = 0
    while number < inputs:
        for _ in range(draw.choice((1, 1, 2, 3, 6))):
            number += 1
            age = min(draw.choice((0, 0, 3, 700, 1_000, 2_500)), gate.driver.now_ms - gate.looked_ms)
            gate.put(_nudge(draw, gate.driver, number), age)
        gate("run")
        unlikely = draw.randrange(30)
        if unlikely == 0:
            gate("advance", milliseconds=draw.choice((599_999, 660_000, 660_001, 700_000)))
        elif unlikely == 1:
            gate("restart")
        elif unlikely == 2:
            of: dict[str, bytes | None] = draw.choice(({"key": b"a"}, {"key": None}, {"value": b"{}"}, {"value": None}))
            gate.put(_nudge(draw, gate.driver, number), **of)
        elif unlikely == 3 and not gate.others:
            gate.follow(_changed(TICKING, _OTHER_TIMERS))
        elif draw.randrange(2):
            gate("advance", milliseconds=draw.choice((0, 1, 2, 500, 1_000, 1_001, 30_000)))
        else:
            gate.sleep(draw.choice((1, 500, 999, 1_000, 1_001, 3_000, 30_000)))
    gate("run")
    gate("advance", milliseconds=draw.choice((1, 5_000, 700_000)))
    return gate


def _nudge(draw: random.Random, driver: TestDriver, number: int) -> Message:
    """Return an input of the ticking lamp."""
    entity, now = draw.choice("abc"), driver.now_ms
    state = driver.read(entity)
    facts = ("installed", "installed") if state.status == "absent" else ("lit", "lit", "hit", "till", "till")
    name = draw.choice((*facts, *facts, "dim", "touch", "broke", "removed"))
    kind = Kind.PROPOSAL if name in ("dim", "touch") else Kind.SIGNAL
    payload = {
        "installed": {"hits": draw.randrange(9)},
        "hit": {"hits": draw.randrange(9)},
        "till": {"until": draw.choice((None, now - 5, now, now + 999, now + 1_500, now + 40_000))},
    }.get(name, {})
    base = {"base_version": state.version} if kind is Kind.PROPOSAL else {}
    return Message(kind, name, f"i-{number}", entity, payload, now, now, dedup_key=f"k-{number}", **base)


def _changed(text: str, changes: Iterable[tuple[str, str]]) -> str:
    for old, new in changes:
        text = text.replace(old, new)
    return text


def rationed(seed: int, inputs: int = 60) -> Recorded:
    """A random history with windows and limits: inputs at their edges, lives, restarts, rules that come and go."""
    draw = random.Random(seed)
    gate = Recorded(LIMITED, draw.choice((1, 2)))
    other = _changed(LIMITED, _OTHER_WINDOWS)
    versions = [other, LIMITED.replace("version: 1", "version: 3"), other.replace("version: 2", "version: 4")]
    number = 0
    while number < inputs:
        for _ in range(draw.choice((1, 1, 2, 3, 6))):
            number += 1
            age = min(draw.choice((0, 0, 3, 700)), gate.driver.now_ms - gate.looked_ms)
            gate.put(_wish(draw, gate.driver, number), age)
        gate("run")
        unlikely = draw.randrange(24)
        if unlikely == 0:
            gate("advance", milliseconds=draw.choice((599_999, 660_000, 660_001, 700_000)))
        elif unlikely in (1, 2):
            gate("restart")
        elif unlikely in (3, 4, 5) and len(gate.others) < len(versions):
            gate("advance", milliseconds=draw.choice((0, 1, 1_000)))
            gate.follow(versions[len(gate.others)])
        else:
            gate("advance", milliseconds=draw.choice((0, 1, 500, 999, 1_000, 2_999, 3_000, 4_000)))
    gate("run")
    gate("advance", milliseconds=draw.choice((1, 5_000, 700_000)))
    return gate


def _wish(draw: random.Random, driver: TestDriver, number: int) -> Message:
    """Return an input of the lamp with limits."""
    entity, now = draw.choice("abc"), driver.now_ms
    state = driver.read(entity)
    facts = ("installed", "installed", "seen") if state.status == "absent" else ("seen", "noted", "noted")
    name = draw.choice((*facts, *facts, "light", "light", "dim", "alert", "alert", "spend", "spend", "removed"))
    kind = Kind.PROPOSAL if name in ("light", "dim", "alert", "spend") else Kind.SIGNAL
    payload = {"noted": {"note": draw.choice("xy")}, "spend": {"minor": draw.choice((0, 1, 3, 4, -1))}}.get(name, {})
    base = {"base_version": state.version} if kind is Kind.PROPOSAL else {}
    key = f"k-{draw.choice((number, number, number, max(0, number - 2)))}"
    return Message(kind, name, f"i-{number}", entity, payload, now, now, key, proposer=draw.choice("pq"), **base)


def limited() -> Recorded:
    """A short history in which windows count each kind of input: what a lie about them is planted in."""
    gate = Recorded(LIMITED, 1)
    gate("signal", "a", "installed", signal_id="s-1")
    gate("propose", "a", "alert", proposal_id="p-1", dedup_key="p-1")  # changes nothing: counted on the ledger
    gate("advance", milliseconds=10)
    gate("propose", "a", "alert", proposal_id="p-2", dedup_key="p-2")
    gate("propose", "a", "alert", proposal_id="p-3", dedup_key="p-3")  # too many
    gate("propose", "a", "spend", {"minor": 4}, proposal_id="p-4", dedup_key="p-4", proposer="ann")
    gate("propose", "a", "spend", {"minor": 6}, proposal_id="p-5", dedup_key="p-5", proposer="ann")  # too much
    gate("propose", "a", "spend", {"minor": 6}, proposal_id="p-6", dedup_key="p-6", proposer="bob")
    gate("restart")
    gate("propose", "a", "light", proposal_id="p-7", dedup_key="p-7")
    gate("advance", milliseconds=1_500)  # `ticks` fires: it changes nothing, and is counted
    gate.follow(_changed(LIMITED, _OTHER_WINDOWS))
    gate("propose", "a", "alert", proposal_id="p-8", dedup_key="p-8")  # the window is not known so far back
    gate("signal", "z", "seen", signal_id="s-2")  # of one that was never created
    gate("advance", milliseconds=700_000)  # it is forgotten, and what the ledger counted
    gate("signal", "a", "seen", signal_id="s-3")
    return gate


def timed() -> Recorded:
    """A short history in which timers fire in each way: what a lie about them is planted in."""
    gate = Recorded(TICKING, 1)
    now = gate.driver.now_ms
    gate("signal", "a", "installed", {"hits": 0}, signal_id="s-1")
    gate("signal", "a", "lit", signal_id="s-2")
    gate("advance", milliseconds=2_000)  # `forgotten` is refused, `wears` accepted
    gate("signal", "a", "till", {"until": now + 2_600}, signal_id="s-3")  # `ends` is due at 3,000
    gate.sleep(5_000)
    gate.put(Message(Kind.SIGNAL, "hit", "s-4", "a", {"hits": 3}, now, now), age=4_000)  # at 3,000: in time
    gate.put(Message(Kind.SIGNAL, "hit", "s-5", "a", {"hits": 4}, now, now), age=3_500)  # at 3,500: later
    gate("run")
    gate("advance", milliseconds=700_000)  # `breaks` is refused; the ledger forgets about `forgotten`
    gate("signal", "b", "installed", {"hits": 1}, signal_id="s-6")
    gate("signal", "b", "lit", signal_id="s-7")
    gate("signal", "c", "installed", {"hits": 1}, signal_id="s-8")
    gate("signal", "c", "removed", signal_id="s-9")  # with its timers
    gate("advance", milliseconds=1_100)  # `forgotten` is accepted, and arms others
    return gate
