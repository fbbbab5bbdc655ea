"""Records the logs of this release: `python -m tests.corpus.record`. Files that exist are left alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from math import inf
from pathlib import Path
from struct import pack
from typing import Final

from placet.definitions import parse_definition
from placet.processors.address import partition_of
from placet.processors.ladder import LADDER
from placet.schemas.decision import Reason
from placet.schemas.messages import Kind, Message
from placet.streams.records import TopicPartition
from placet.streams.topology import control_topic, dead_letters_topic, entity_topics
from placet.testing import TestDriver
from placet.testing.log import DriverLog
from tests.corpus.check import state_digest
from tests.corpus.recording import Recording
from tests.simulation.histories import KINDS
from tests.simulation.invariants import ClusterLog, broken_invariants
from tests.simulation.rules import APP, DEFINITION, PARTITIONS, TOPICS
from tests.simulation.world import World

HERE: Final = Path(__file__).parent
HORIZON_MS: Final = 600_000
LAG_MS: Final = HORIZON_MS + 86_400_000
APP_OF_DRIVER: Final = "test"
NOT_YET: Final = {Reason.NOT_AUTHORIZED, Reason.SHED, Reason.NEEDS_APPROVAL}
"""Reasons that nothing leads to yet."""
RECORDED_APART: Final = {Reason.IGNORED, Reason.STATE_TOO_OLD, Reason.RATE_LIMITED}
"""Reasons of keys that came after the first recording of this ladder: each key has a recording of its own."""

EVERY_REASON: Final = """
entity: loan
version: 1
horizon: 10m
statuses: [open, lent, lost]
final: [lost]
fields:
  title: {type: string, default: ""}
  fee: {type: decimal, precision: 8, scale: 2, default: "0.00"}
  pages: {type: int, default: 1}
  seen: {type: long, default: 0}
  worth: {type: double, default: 0.5}
  rare: {type: boolean, default: false}
  due: timestamp | null
  tags: {type: array, items: string, default: []}
  marks: {type: map, values: int, default: {}}
invariants: {small: "state.pages < 1000"}
signals:
  bought:
    payload:
      title: string
      fee: {type: decimal, precision: 8, scale: 2}
      tags: {type: array, items: string}
      marks: {type: map, values: int}
      worth: double
    from: absent
    to: open
    copy: [title, fee, tags, marks, worth]
  read: {payload: {pages: int}, from: [open, lent], copy: pages}
  located: {payload: {seen: long}, from: any, dedup: newest, copy: seen}
  noted: {from: any}
  aged: {from: any, late: refuse}
  removed: {from: any, to: absent}
proposals:
  lend: {payload: {due: timestamp}, from: open, to: lent, copy: due, guard: "payload.due > event_time", valid_for: 1m}
  price: {payload: {fee: {type: decimal, precision: 8, scale: 2}}, fence: [fee], from: any, copy: fee}
  praise: {payload: {by: int}, fence: none, from: any, dedup: [by], set: {seen: "10 / payload.by"}}
  welcome: {from: any, dedup: once, fence: none}
  describe: {payload: {title: string}, fence: none, from: any, copy: title}
"""


def every_reason() -> Recording:
    """Each reason that there is, each type of field, lives, tombstones, two versions of a definition, three gates."""
    driver = TestDriver(parse_definition(EVERY_REASON), partitions=2)
    bought = {"title": "a", "fee": Decimal("1.50"), "tags": ["x"], "marks": {"y": 1}, "worth": 2.0}
    driver.signal("l-1", "bought", bought, signal_id="s-1", source="shop")
    first, now = driver.read("l-1"), driver.now_ms
    driver.signal("l-1", "noted", signal_id="s-2")
    driver.signal("l-1", "noted", signal_id="s-2")  # REPEATED
    driver.signal("l-1", "located", {"seen": 5}, signal_id="s-3", event_time=now)
    driver.signal("l-1", "located", {"seen": 4}, signal_id="s-4", event_time=now - 5)  # SUPERSEDED
    driver.signal("l-1", "aged", signal_id="s-5", event_time=now)
    driver.signal("l-1", "aged", signal_id="s-6", event_time=now - 5)
    driver.signal("l-1", "aged", signal_id="s-7", issued_at=now - HORIZON_MS - 1)  # TOO_LATE
    driver.signal("l-1", "aged", signal_id="s-8", issued_at=now + 60_001)  # CLOCK_AHEAD
    driver.propose("l-1", "lend", {"due": now + 9}, dedup_key="k-1", issued_at=now - 60_001)  # EXPIRED
    driver.propose("l-1", "lend", {"due": now - 9}, dedup_key="k-2")  # GUARD_FAILED
    driver.propose("l-1", "lend", {"due": now + 9}, dedup_key="k-3", proposer="desk")
    driver.propose("l-1", "lend", {"due": now + 8}, dedup_key="k-3")  # DEDUP_KEY_REUSED
    driver.propose("l-1", "lend", {"due": now + 9}, dedup_key="k-4")  # ILLEGAL_TRANSITION
    driver.propose("l-1", "price", {"fee": Decimal("2.00")}, base=first, dedup_key="k-7")
    driver.propose("l-1", "price", {"fee": Decimal("3.00")}, base=first, dedup_key="k-8")  # STALE
    ahead = replace(driver.read("l-1"), version=99)
    driver.propose("l-1", "price", {"fee": Decimal("3.00")}, base=ahead, dedup_key="k-9")  # VERSION_AHEAD
    driver.propose("l-1", "praise", {"by": 0})  # GUARD_ERROR
    driver.signal("l-1", "read", {"pages": 1000}, signal_id="s-9")  # INVARIANT_VIOLATED
    driver.propose("l-1", "welcome")
    driver.propose("l-1", "welcome", proposal_id="again")
    driver.propose("l-1", "describe", {"title": "b" * 262_144}, dedup_key="k-6")  # STATE_TOO_LARGE
    _send_broken(driver)
    driver.restart()
    driver.advance(minutes=3)
    driver.signal("l-1", "removed", signal_id="s-10")
    driver.signal("l-1", "bought", bought, signal_id="s-11")
    driver.propose("l-1", "price", {"fee": Decimal("4.00")}, base=first, dedup_key="k-10")  # of an earlier life
    driver.signal("l-2", "bought", bought, signal_id="s-12")
    driver.signal("l-2", "removed", signal_id="s-13")
    driver.propose("l-3", "welcome")  # of one that was never created
    driver.advance(minutes=12)  # l-2 and l-3 are forgotten, and what was remembered of l-1
    driver.restart(parse_definition(EVERY_REASON.replace("version: 1", "version: 2").replace("< 1000", "< 2000")))
    driver.signal("l-1", "read", {"pages": 1000}, signal_id="s-14")
    driver.signal("l-2", "bought", bought, signal_id="s-15")
    driver.signal("l-1", "noted", signal_id="s-2")  # its first one is forgotten
    given = {decision.reason for decision in driver.decisions}
    assert set(Reason) - given == NOT_YET | RECORDED_APART, set(Reason) - given - NOT_YET
    return recorded_of(driver)


def _send_broken(driver: TestDriver) -> None:
    """UNDECODABLE, UNKNOWN_SCHEMA, WRONG_PARTITION, KEY_MISMATCH, INVALID_PAYLOAD."""
    now, here = driver.now_ms, partition_of(b"l-1", 2)
    value = driver.codec.encode_message(Message(Kind.SIGNAL, "noted", "s-20", "l-1", {}, now, now))
    endless = driver.codec.encode_message(Message(Kind.SIGNAL, "bought", "s-21", "l-1", {
        "title": "a", "fee": Decimal("1.50"), "tags": [], "marks": {}, "worth": 2.0}, now, now))  # fmt: skip
    driver.send_raw(Kind.SIGNAL, b"l-1", None)
    driver.send_raw(Kind.SIGNAL, b"l-1", value[:-1])
    driver.send_raw(Kind.SIGNAL, b"l-1", b"\xc3\x01" + b"8" * 8 + value[10:])
    driver.send_raw(Kind.SIGNAL, b"l-1", value, partition=1 - here)
    driver.send_raw(Kind.SIGNAL, b"l-9", value, partition=partition_of(b"l-9", 2))
    driver.send_raw(Kind.SIGNAL, b"l-1", endless.replace(pack("<d", 2.0), pack("<d", inf)))


ELSEWHERE: Final = """
entity: lamp
version: 1
horizon: 10m
statuses: [dark, lit]
fields: {level: {type: int, default: 0}}
signals:
  made: {from: absent, to: dark}
  switched: {from: dark, to: lit}
  broken: {from: lit, to: absent}
  measured: {payload: {level: int}, dedup: newest, elsewhere: ignore, from: lit, copy: level}
  counted: {payload: {level: int}, elsewhere: ignore, from: lit, copy: level}
"""


def elsewhere() -> Recording:
    """Facts of `elsewhere: ignore` before, in and after the status that takes them, and a version without the key."""
    driver = TestDriver(parse_definition(ELSEWHERE), partitions=1)
    now = driver.now_ms

    def reports(ago: int, expected: Reason) -> None:
        sent = {"event_time": now - ago, "signal_id": f"m-{ago}"}
        assert driver.signal("l-1", "measured", {"level": ago}, **sent).reason is expected
        driver.signal("l-1", "counted", {"level": ago}, signal_id=f"c-{ago}")

    reports(5, Reason.IGNORED)
    driver.signal("l-1", "made", signal_id="s-1")
    reports(5, Reason.IGNORED)
    driver.signal("l-1", "switched", signal_id="s-2")
    reports(9, Reason.NONE)  # the newer one was ignored
    reports(5, Reason.NONE)
    driver.restart()
    reports(9, Reason.SUPERSEDED)
    driver.signal("l-1", "broken", signal_id="s-3")
    reports(5, Reason.REPEATED)
    reports(4, Reason.IGNORED)
    driver.restart(parse_definition(ELSEWHERE.replace("version: 1", "version: 2").replace("elsewhere: ignore, ", "")))
    reports(3, Reason.ILLEGAL_TRANSITION)
    return recorded_of(driver)


LATE: Final = """
entity: meter
version: 1
horizon: 10m
statuses: [running, billed, closed]
fields: {kwh: {type: long, default: 0}, missed: {type: int, default: 0}}
signals:
  started: {from: absent, to: running}
  billed: {from: running, to: billed}
  closed: {from: any, to: closed}
  removed: {from: any, to: absent}
  counted:
    payload: {kwh: long}
    late: compensate
    transitions:
      - {from: [running, closed], copy: kwh}
      - {from: [running, absent], late: true, to: running, guard: payload.kwh > 0, set: {missed: state.missed + 1}}
      - {from: billed, late: true}
"""


def late() -> Recording:
    """Facts of `late: compensate`: in time and late, in each status, across restarts and a deletion."""
    driver = TestDriver(parse_definition(LATE), partitions=1)
    now = driver.now_ms

    def counts(ago: int, expected: Reason, kwh: int = 5) -> None:
        sent = {"event_time": now - ago, "signal_id": f"c-{ago}"}
        assert driver.signal("m-1", "counted", {"kwh": kwh}, **sent).reason is expected

    driver.signal("m-1", "started", signal_id="s-1")
    counts(10, Reason.NONE)
    counts(20, Reason.NONE)  # late
    driver.restart()
    counts(20, Reason.REPEATED)
    counts(15, Reason.NONE)  # late still
    counts(16, Reason.GUARD_FAILED, kwh=0)
    driver.signal("m-1", "billed", signal_id="s-2")
    counts(5, Reason.ILLEGAL_TRANSITION)
    counts(17, Reason.NONE)  # late, and changes nothing
    driver.restart()
    counts(17, Reason.REPEATED)
    driver.signal("m-1", "closed", signal_id="s-3")
    counts(18, Reason.SUPERSEDED)
    counts(5, Reason.NONE, kwh=9)
    driver.signal("m-1", "removed", signal_id="s-4")
    counts(19, Reason.NONE)  # late, and brings it back
    counts(6, Reason.NONE)  # late
    driver.restart()
    counts(1, Reason.NONE)
    state = driver.read("m-1")
    assert (state.version, state.fields) == (11, {"kwh": 5, "missed": 2}), state
    return recorded_of(driver)


AGED: Final = """
entity: patient
version: 1
horizon: 10m
statuses: [stable, alarmed]
signals:
  admitted: {from: absent, to: stable}
proposals:
  alarm: {from: stable, to: alarmed}
  calm: {from: alarmed, to: stable}
"""


def max_state_age() -> Recording:
    """Proposals that say when their state was read, or do not, under a version that asks, between two others."""
    driver = TestDriver(parse_definition(AGED), partitions=1)
    driver.signal("p-1", "admitted", signal_id="s-1")
    waits = Message(Kind.PROPOSAL, "alarm", "p-1", "p-1", {}, driver.now_ms, driver.now_ms, "k-0", None, None, 1)
    unsaid = driver.codec.encode_message(waits)
    driver.restart(
        parse_definition(AGED.replace("version: 1", "version: 2").replace("alarm: {", "alarm: {max_state_age: 5s, "))
    )

    def alarms(read_at: int, expected: Reason) -> None:
        assert driver.propose("p-1", "alarm", read_at=read_at, dedup_key="k-1").reason is expected

    assert driver.send_raw(Kind.PROPOSAL, b"p-1", unsaid).reason is Reason.STATE_TOO_OLD
    alarms(driver.now_ms - 5_001, Reason.STATE_TOO_OLD)
    alarms(driver.now_ms + 60_001, Reason.STATE_TOO_OLD)
    alarms(driver.now_ms - 5_000, Reason.NONE)
    driver.restart()
    alarms(driver.now_ms - 9_999, Reason.REPEATED)
    assert driver.propose("p-1", "calm", read_at=1, dedup_key="k-2").reason is Reason.NONE
    said = driver.codec.encode_message(replace(waits, dedup_key="k-3", base_version=3, read_at=1))
    driver.restart(parse_definition(AGED.replace("version: 1", "version: 3")))
    assert driver.send_raw(Kind.PROPOSAL, b"p-1", said).reason is Reason.NONE
    return recorded_of(driver)


LIMITED: Final = """
entity: account
version: 1
horizon: 10m
statuses: [open, frozen]
fields: {spent: {type: long, default: 0}}
signals:
  opened: {from: absent, to: open}
  seen: {from: [open, frozen, absent]}
  thawed: {from: frozen, to: open}
  closed: {from: [open, frozen], to: absent}
proposals:
  alert: {from: open, fence: none, limits: window.alerts < 2}
  refund:
    payload: {minor: long}
    fence: none
    limits: ["window.spent + payload.minor <= 500"]
    from: open
    set: {spent: state.spent + payload.minor}
timers:
  lapses: {from: open, after: 30s, to: frozen, guard: window.lapses < 2}
windows:
  alerts: {count: alert, within: 1m}
  spent: {sum: refund.minor, within: 10m, by: proposer}
  lapses: {count: lapses, within: 5m}
  sights: {count: seen, within: 2m}
"""


def windows() -> Recording:
    """Windows over signals, proposals and timers, by changes and without, over lives, restarts and versions."""
    driver = TestDriver(parse_definition(LIMITED), partitions=1)

    def asks(name: str, expected: Reason, minor: int | None = None, proposer: str = "ann") -> None:
        payload, key = {} if minor is None else {"minor": minor}, f"k-{len(driver.decisions)}"
        found = driver.propose("a-1", name, payload, dedup_key=key, proposer=proposer)
        assert found.reason is expected, (found.reason, found.detail)

    for number in range(3):
        driver.signal("a-9", "seen", signal_id=f"n-{number}")  # of one that was never created
    driver.signal("a-1", "opened", signal_id="s-1")
    asks("alert", Reason.NONE)
    asks("refund", Reason.NONE, 400)
    asks("refund", Reason.RATE_LIMITED, 101)
    asks("refund", Reason.NONE, 500, "bob")
    asks("alert", Reason.NONE)
    asks("alert", Reason.RATE_LIMITED)
    driver.restart()
    asks("alert", Reason.RATE_LIMITED)
    driver.signal("a-1", "seen", signal_id="s-2")
    for number in range(3):
        driver.advance(seconds=31)
        driver.signal("a-1", "thawed", signal_id=f"t-{number}")
    asks("alert", Reason.NONE)
    driver.signal("a-1", "closed", signal_id="s-3")
    asks("refund", Reason.RATE_LIMITED, 101)
    driver.restart()
    driver.signal("a-1", "opened", signal_id="s-4")
    asks("refund", Reason.RATE_LIMITED, 101)
    other = LIMITED.replace("version: 1", "version: 2").replace("count: alert, within: 1m", "count: seen, within: 3m")
    driver.restart(parse_definition(other.replace("sum: refund.minor, within: 10m, by: proposer", (
        "sum: refund.minor, within: 9m, by: proposer, start: empty"
    ))))  # fmt: skip
    asks("alert", Reason.RATE_LIMITED)  # it is kept for too short a time
    driver.signal("a-1", "seen", signal_id="s-5")
    asks("refund", Reason.NONE, 100)
    driver.advance(minutes=3)
    driver.restart()
    asks("alert", Reason.NONE)  # what was seen has left the window at this very moment
    for number in range(2):
        driver.signal("a-1", "seen", signal_id=f"s-5-{number}")
    asks("alert", Reason.RATE_LIMITED)
    lacking = other.replace(", limits: window.alerts < 2", "").replace("  alerts: {count: seen, within: 3m}\n", "")
    driver.restart(parse_definition(lacking.replace("version: 2", "version: 3")))
    driver.signal("a-2", "seen", signal_id="s-5-3")
    again = other.replace("version: 2", "version: 4").replace("seen, within: 3m", "seen, within: 3m, start: empty")
    driver.restart(parse_definition(again))
    asks("alert", Reason.NONE)  # it begins anew, though nothing has changed the entity since
    driver.restart(parse_definition(again.replace("version: 4", "version: 5").replace("3m, start: empty", "4m")))
    asks("alert", Reason.RATE_LIMITED)  # it reaches back further than it was kept
    driver.signal("a-1", "closed", signal_id="s-6")
    driver.advance(minutes=12)  # all is forgotten
    driver.restart()
    driver.signal("a-1", "opened", signal_id="s-7")
    asks("refund", Reason.NONE, 500)
    return recorded_of(driver)


def recorded_of(driver: TestDriver) -> Recording:
    """Return what a driver's gate left on the log."""
    ids, partitions = driver.entity_type.topic_ids, driver.partitions
    return _recorded(driver.log, APP_OF_DRIVER, driver.machine.entity, ids, partitions, driver.now_ms)


def rolling() -> Recording:
    """Gates of two versions of a definition take turns, and are killed, amid trouble of every kind."""
    world = World(17, KINDS["rolling"])
    world.run()
    assert not list(broken_invariants(world))
    ids = {topic: world.cluster.topics[topic].topic_id for topic in TOPICS}
    now_ms = world.cluster.network.clock_ms(1)
    return _recorded(ClusterLog(world.cluster), APP, DEFINITION.entity, ids, PARTITIONS, now_ms)


def _recorded(
    log: DriverLog | ClusterLog, app: str, entity: str, topic_ids: Mapping[str, str], partitions: int, now_ms: int
) -> Recording:
    topics = entity_topics(app, entity)
    places = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
    found = log.committed([place for place in places if place.topic in topics.inputs]) or {}
    positions = [(*place, position) for place, position in found.items() if position is not None]
    made = Recording(app, entity, partitions, LADDER, now_ms, LAG_MS, dict(topic_ids), positions)
    for place in (*places, TopicPartition(dead_letters_topic(app), 0), TopicPartition(control_topic(app), 0)):
        made.records[place] = log.records(place)
        made.ends[place] = log.end(place) if isinstance(log, DriverLog) else log.end_offsets([place])[place]
    made.states = [state_digest(made, number) for number in range(partitions)]
    return made


ALL: Final[dict[str, Callable[[], Recording]]] = {
    "elsewhere": elsewhere,
    "every-reason": every_reason,
    "late": late,
    "max-state-age": max_state_age,
    "rolling": rolling,
    "windows": windows,
}


if __name__ == "__main__":
    for name, make in ALL.items():
        path = HERE / f"ladder-{LADDER}.{name}.jsonl.gz"
        if path.exists():
            sys.stdout.write(f"{path.name} is there already\n")
        else:
            make().write(path)
            sys.stdout.write(f"{path.name}: {path.stat().st_size:,} bytes\n")
