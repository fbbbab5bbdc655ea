"""The index of armed timers as a task follows it: what is due next, and when it may fire."""

from __future__ import annotations

from placet.streams.loop.due_timers import NEVER, DueTimers
from placet.streams.records import ConsumerRecord
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore


def key(due: int, entity: bytes) -> bytes:
    return b"a" + layout.dump_log_time(due) + entity


def index(*dues: int) -> tuple[MemoryStore, DueTimers]:
    store = MemoryStore()
    store.write({key(due, b"e-%d" % due): b"" for due in dues})
    timers = DueTimers(store, ["facts", "wishes"])
    timers.begin()
    return store, timers


def record(topic: str, timestamp: int) -> ConsumerRecord:
    return ConsumerRecord(topic, 0, 0, timestamp, b"e-1", b"")


def test_it_may_fire_once_each_partition_is_read_beyond_its_time() -> None:
    _, timers = index(100)
    timers.polled([record("facts", 500)])
    assert not timers.fires
    assert timers.wants_ends(101)
    timers.read_to_end("wishes", 100, 0)
    assert not timers.fires, "an answer of that very time may come"
    timers.read_to_end("wishes", 101, 0)
    assert timers.fires


def test_what_is_due_comes_in_order_and_no_more_of_it_than_is_asked_for() -> None:
    _, timers = index(300, 100, 200, 400)
    assert [(due, entity) for _, due, entity in timers.due(400, 10)] == [
        (100, b"e-100"),
        (200, b"e-200"),
        (300, b"e-300"),
    ]
    assert [due for _, due, _ in timers.due(1_000, 2)] == [100, 200]


def test_it_goes_on_behind_what_is_committed_and_takes_an_aborted_one_up_again() -> None:
    store, timers = index(100, 200)
    timers.went_past(key(100, b"e-100"))
    timers.discard()
    assert timers.next_due == 100
    timers.went_past(key(100, b"e-100"))
    store.write({key(100, b"e-100"): None})
    timers.committed([])
    assert timers.next_due == 200
    store.write({key(50, b"e-50"): b""})  # a clock of a broker stepped back, or an outage: earlier than what was seen
    timers.committed([key(50, b"e-50")])
    assert timers.next_due == 50


def test_without_any_nothing_is_looked_at_until_one_is_armed() -> None:
    store, timers = index()
    assert (timers.armed, timers.next_due) == (False, NEVER)
    store.write({key(7, b"e-7"): b""})
    timers.committed([key(7, b"e-7")])
    assert (timers.armed, timers.next_due) == (True, 7)


def test_a_clock_that_was_ahead_and_is_set_right_makes_nothing_fire() -> None:
    _, timers = index(100)
    for topic in ("facts", "wishes"):
        timers.read_to_end(topic, 20_000, 5_000)
    assert timers.fires
    timers.begin_at(5_050)
    assert not timers.fires
    assert timers.read_past == 50
    timers.polled([record("facts", 300), record("wishes", 200)])
    assert timers.fires, "what was polled is no word of a clock"


def test_an_input_that_waits_asks_for_the_ends_and_goes_on() -> None:
    _, timers = index()
    timers.polled([record("facts", 500)])
    assert not timers.is_past(100)
    assert timers.must_wait
    assert timers.wants_ends(101)
    timers.read_to_end("wishes", 101, 0)
    assert not timers.must_wait
    assert timers.is_past(100)
