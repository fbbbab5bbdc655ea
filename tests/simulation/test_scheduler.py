"""Simulated threads: one at a time, dead ones do nothing, and time passes only when nobody has anything to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from placet.simulation.choices import CalmChoices, Choices
from placet.simulation.database import SimulatedEngine
from placet.simulation.disk import SimulatedDisk
from placet.simulation.host import SimulatedHost
from placet.simulation.scheduler import Process, Scheduler, StandsStill
from placet.streams.errors import FatalError
from placet.streams.kafka.watchdog import EXIT_HUNG, Watchdog
from placet.streams.state.rocksdb import RocksDBStore
from placet.streams.state.store import StoreDamaged, StoreLocked

FOLDER = Path("state/0")


class World:
    def __init__(self, seed: int = 1) -> None:
        self.choices = Choices(seed)
        self.scheduler = Scheduler(self.choices)
        self.disk = SimulatedDisk(self.choices)
        self.process = Process("gate")
        self.host = SimulatedHost(self.scheduler, self.process, self.disk)

    def runs(self, *works: object, limit_s: float = 10.0) -> None:
        """Run these to their ends."""
        fibers = [self.scheduler.spawn(self.process, str(n), work) for n, work in enumerate(works)]  # type: ignore[arg-type]
        self.scheduler.run(lambda: all(fiber.done for fiber in fibers), limit_s)


def test_threads_take_turns_as_the_seed_has_it() -> None:
    def told(seed: int) -> list[str]:
        world, said = World(seed), list[str]()

        def count(name: str) -> None:
            for number in range(3):
                world.host.exists(FOLDER)
                said.append(f"{name}{number}")

        world.runs(lambda: count("a"), lambda: count("b"))
        return said

    assert told(1) == told(1)
    assert len({tuple(told(seed)) for seed in range(20)}) > 5
    assert sorted(told(1)) == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_time_passes_when_all_wait_and_the_earliest_wakes_first() -> None:
    world, said = World(), list[tuple[str, float]]()

    def sleep(name: str, seconds: float) -> None:
        world.host.sleep(seconds)
        said.append((name, round(world.host.monotonic_s(), 3)))

    world.runs(lambda: sleep("b", 2.0), lambda: sleep("a", 1.0))
    assert said == [("a", 1.0), ("b", 2.0)]


def test_a_flag_an_inbox_and_a_thread_wake_those_who_wait() -> None:
    world, said = World(), list[object]()
    flag, inbox = world.host.flag(), world.host.inbox()

    def waits() -> None:
        said.append(flag.wait(0.5))
        said.append(flag.wait(5.0))
        said.append(inbox.get())
        said.append(inbox.get(0.1))
        spawned = world.host.spawn("short", lambda: world.host.sleep(0.2))
        spawned.join(0.1)
        said.append(spawned.is_alive())
        spawned.join()
        said.append(spawned.is_alive())

    def acts() -> None:
        world.host.sleep(1.0)
        flag.set()
        world.host.sleep(1.0)
        inbox.put("it")

    world.runs(waits, acts)
    assert said == [False, True, "it", None, True, False]


def test_the_dead_do_nothing_not_even_in_the_end() -> None:
    world, said = World(), list[str]()

    def dies() -> None:
        store = world.host.open_store(FOLDER)
        store.write({b"a": b"1"})
        try:
            world.host.sleep(10.0)
            said.append("never")
        finally:
            store.write({b"a": b"2"})
            said.append("never")

    other = Process("other")
    world.scheduler.spawn(world.process, "dies", dies)
    world.scheduler.spawn(other, "kills", lambda: world.scheduler.wait(other, None, 1_000_000_000))
    world.scheduler.run(lambda: world.scheduler.now_ns >= 1_000_000_000, 5)
    world.scheduler.crash(world.process)
    heir = SimulatedHost(world.scheduler, Process("heir"), world.disk)
    found: list[bytes | None] = []
    fiber = world.scheduler.spawn(heir._process, "reads", lambda: found.append(heir.open_store(FOLDER).get(b"a")))
    world.scheduler.run(lambda: fiber.done, 5)
    assert found == [b"1"]
    assert said == []


def test_of_what_was_not_flushed_some_first_batches_outlive_a_death() -> None:
    outlived = set()
    for seed in range(30):
        world = World(seed)

        def fills(world: World = world) -> None:
            with world.host.open_store(FOLDER).filling(3) as write:
                for number in range(3):
                    write({b"%d" % number: b"x"})
                world.host.sleep(10.0)

        world.scheduler.spawn(world.process, "fills", fills)
        other = Process("other")
        world.scheduler.spawn(other, "waits", lambda w=world, o=other: w.scheduler.wait(o, None, 1_000_000_000))
        world.scheduler.run(lambda w=world: w.scheduler.now_ns >= 1_000_000_000, 5)
        world.scheduler.crash(world.process)
        store = RocksDBStore(FOLDER, SimulatedEngine(world.disk, other))
        outlived.add(tuple(key for key, _ in store.scan(b"", b"", 9)))
    assert outlived == {(), (b"0",), (b"0", b"1"), (b"0", b"1", b"2")}


def test_a_folder_has_one_owner_and_damage_is_met_at_any_call() -> None:
    world = World()

    def uses() -> None:
        store = world.host.open_store(FOLDER)
        with pytest.raises(StoreLocked):
            world.host.open_store(FOLDER)
        world.disk.damage(FOLDER, within=1)
        with pytest.raises(StoreDamaged):
            store.get(b"a")
        store.close()
        with pytest.raises(StoreDamaged):
            world.host.open_store(FOLDER)
        world.host.rename(FOLDER, FOLDER.with_suffix(".aside"))
        world.host.open_store(FOLDER).close()

    world.runs(uses)
    assert world.disk.folders() == [FOLDER, FOLDER.with_suffix(".aside")]
    assert world.disk.locked() == []


def test_a_disk_that_refuses_says_so_at_each_call_and_a_clock_may_be_off() -> None:
    world = World()
    world.disk.refuse(errno.ENOSPC)
    fast = SimulatedHost(world.scheduler, world.process, world.disk, skew_ns=3_000_000_000)

    def uses() -> None:
        with pytest.raises(FatalError, match="No space left"):
            world.host.open_store(FOLDER)
        for call in (lambda: world.host.rename(FOLDER, FOLDER), lambda: world.host.try_folder(FOLDER)):
            with pytest.raises(OSError, match="No space left"):
                call()
        assert fast.now_ms() - world.host.now_ms() == 3_000

    world.runs(uses)


def test_the_watchdog_ends_a_process_whose_call_hangs() -> None:
    world = World()

    def hangs() -> None:
        watchdog = Watchdog(world.host, 20_000)
        with watchdog.armed("flush"):
            world.host.sleep(19.0)
        with watchdog.armed("commit_transaction"):
            world.host.sleep(60.0)

    world.scheduler.spawn(world.process, "loop", hangs)
    world.scheduler.run(lambda: world.process.dead, 100)
    assert world.process.exit_code == EXIT_HUNG
    assert world.scheduler.now_ns / 1e9 == pytest.approx(39, abs=2)


def test_what_can_not_happen_any_more_is_said_with_who_waits() -> None:
    world = World()
    with pytest.raises(StandsStill, match="gate/0"):
        world.runs(lambda: world.host.inbox().get())
    with pytest.raises(StandsStill, match="not within 2 simulated seconds"):
        world.runs(lambda: world.host.sleep(5.0), limit_s=2)


def test_a_world_that_ends_within_another_one_lets_that_go_on() -> None:
    """As a finalizer may: Python calls it wherever it likes."""
    inner, outer, told = World(), World(), list[str]()

    def wait_for_ever() -> None:
        try:
            inner.host.sleep(1e6)
        finally:
            told.append("ended")

    def end_the_other() -> None:
        inner.scheduler.close()
        outer.host.sleep(1.0)
        told.append("goes on")

    inner.host.spawn("waits", wait_for_ever)
    inner.scheduler.run(lambda: inner.scheduler.turns > 0, 1.0)
    outer.host.spawn("ends it", end_the_other)
    outer.scheduler.run(lambda: len(told) == 2, 10.0)
    assert told == ["ended", "goes on"]


def test_a_world_can_be_run_until_all_wait_by_a_clock_that_stands_still() -> None:
    scheduler, process, told = Scheduler(CalmChoices(), 5, stands_still=True), Process("gate"), list[int]()
    host = SimulatedHost(scheduler, process, SimulatedDisk(scheduler.choices))
    inbox = host.inbox()

    def take() -> None:
        while True:
            told.append(inbox.get())

    host.spawn("takes", take)
    for number in range(3):
        inbox.put(number)
    scheduler.run_to_rest(lambda: bool(told), 1.0)
    assert (told, host.now_ns()) == ([0, 1, 2], 5)
    host.spawn("waits", lambda: host.sleep(60.0))
    with pytest.raises(StandsStill, match="not within 1 simulated"):
        scheduler.run_to_rest(lambda: False, 1.0)
    assert (host.now_ns(), host.monotonic_s() > 1.0) == (5, True)
    scheduler.close()
