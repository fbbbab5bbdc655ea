"""What a simulated disk takes and refuses, under the real store. What both databases show is in tests/contract."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from placet.simulation.choices import Choices
from placet.simulation.database import SimulatedEngine
from placet.simulation.disk import SimulatedDisk
from placet.simulation.scheduler import Crashed, Process
from placet.streams.errors import FatalError
from placet.streams.state.rocksdb import RocksDBStore
from placet.streams.state.store import StoreDamaged

FOLDER = Path("state/0")


class World:
    """One machine, on which one process after the other has the store open."""

    def __init__(self, seed: int = 1) -> None:
        self.disk = SimulatedDisk(Choices(seed))
        self.process = Process("1")

    def open(self) -> RocksDBStore:
        return RocksDBStore(FOLDER, SimulatedEngine(self.disk, self.process))

    def kill(self) -> None:
        self.process.dead = True
        self.process = Process(str(int(self.process.name) + 1))

    def keys(self) -> bytes:
        store = self.open()
        found = b"".join(key for key, _ in store.scan(b"", b"", 99))
        store.close()
        return found


def test_a_power_loss_takes_the_last_batches_of_the_log_and_a_death_alone_none() -> None:
    found = set()
    for seed in range(40):
        world = World(seed)
        store = world.open()
        store.write({b"a": b""})
        store.close()
        store = world.open()
        for key in (b"b", b"c"):
            store.write({key: b"", key.upper(): b""})
        world.kill()
        if seed % 2:
            world.disk.lose_power()
            found.add(world.keys())
        else:
            assert world.keys() == b"BCabc"
    assert found == {b"a", b"Bab", b"BCabc"}


def test_a_power_loss_while_it_is_filled_leaves_a_first_part() -> None:
    found = set()
    for seed in range(40):
        world = World(seed)
        filling = world.open().filling(1)
        write = filling.__enter__()
        for key in (b"a", b"b"):
            write({key: b""})
        world.kill()
        world.disk.lose_power()
        found.add(world.keys())
        with pytest.raises(Crashed):
            filling.__exit__(None, None, None)
    assert found == {b"", b"a", b"ab"}


def test_the_power_is_not_lost_while_a_process_lives() -> None:
    world = World()
    world.open()
    with pytest.raises(AssertionError, match="lives on"):
        world.disk.lose_power()


def test_damage_is_met_by_any_call_and_by_all_that_follow() -> None:
    met = set()
    for seed in range(120):
        world = World(seed)
        store = world.open()
        store.write({b"%d" % number: b"" for number in range(9)})
        world.disk.damage(FOLDER, within=17)
        calls = {**_calls(store), "close": store.close, "open": lambda world=world: world.open().close()}
        while calls:
            name = next(iter(calls))
            try:
                calls.pop(name)()
            except StoreDamaged:
                met.add(name)
                break
        assert calls or name == "open", "never met"
        for again in _calls(store).values():
            with pytest.raises((StoreDamaged, AttributeError)):  # or it is closed
                again()
    assert met == {"get", "write", "scan", "clean", "fill", "open"}, "what a close meets, the next opening tells"


def _calls(store: RocksDBStore) -> dict[str, Callable[[], object]]:
    def fill() -> None:
        for records in (1, 1_000_000):
            with store.filling(records) as write:
                write({b"f": b""})

    return {
        "get": lambda: store.get(b"1"),
        "write": lambda: store.write({b"w": b""}),
        "scan": lambda: store.scan(b"", b"", 99),
        "clean": lambda: store.clean(1),
        "fill": fill,
    }


def test_a_scan_reads_what_lies_before_damage_and_never_ends_without_telling() -> None:
    read = set()
    for seed in range(40):
        world = World(seed)
        store = world.open()
        store.write({b"%d" % number: b"" for number in range(9)})
        world.disk.damage(FOLDER, within=1)
        with pytest.raises(StoreDamaged, match="Corruption: block checksum mismatch"):
            store.scan(b"", b"", 99)
        try:
            read.add(len(store.scan(b"", b"", 2)))
        except StoreDamaged:
            read.add(-1)
    assert read == {-1, 2}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_a_disk_that_takes_nothing_can_be_read(code: int) -> None:
    world = World()
    store = world.open()
    store.write({b"a": b"1"})
    world.disk.refuse(code)
    calls = _calls(store)
    with pytest.raises(FatalError, match=f"IO error: .*{os.strerror(code)}"):
        calls["write"]()
    with pytest.raises(FatalError, match=f"IO error: .*{os.strerror(code)}"):
        calls["fill"]()
    assert store.get(b"a") == b"1"
    assert store.scan(b"", b"", 9) == [(b"a", b"1")]
    store.close()
    with pytest.raises(FatalError, match=os.strerror(code)):
        world.open()
    with pytest.raises(OSError, match=os.strerror(code)):
        world.disk.rename(FOLDER, FOLDER.with_suffix(".aside"))
    world.disk.heal()
    assert world.keys() == b"a", "what the log has"


def test_a_sector_that_can_not_be_read_is_damage_and_too_many_files_are_none() -> None:
    for code, error in ((errno.EIO, StoreDamaged), (errno.EMFILE, FatalError)):
        world = World()
        store = world.open()
        world.disk.refuse(code)
        for call in _calls(store).values():
            with pytest.raises(error, match=os.strerror(code)):
                call()
        store.close()
        with pytest.raises(FatalError, match=os.strerror(code)):  # its lock can't be opened
            world.open()


def test_a_call_that_meets_eio_may_have_written_all_the_same() -> None:
    found = set()
    for seed in range(20):
        world = World(seed)
        store = world.open()
        world.disk.refuse(errno.EIO, times=1)
        with pytest.raises(StoreDamaged, match=os.strerror(errno.EIO)):
            store.write({b"a": b"1"})
        with pytest.raises(StoreDamaged):  # until it is opened again
            store.write({b"b": b"2"})
        store.close()
        found.add(world.keys())
    assert found == {b"", b"a"}


def test_some_of_many_calls_may_be_refused() -> None:
    world = World()
    store = world.open()
    world.disk.refuse(errno.EMFILE, once_in=3)
    refused = 0
    for _ in range(90):
        try:
            store.get(b"a")
        except FatalError:
            refused += 1
    assert 15 < refused < 45


def test_where_there_is_room_again_it_recovers_by_itself_and_after_other_errors_it_does_not() -> None:
    for code, recovers in ((errno.ENOSPC, True), (errno.EROFS, False)):
        world = World()
        store = world.open()
        world.disk.refuse(code)
        with pytest.raises(FatalError):
            store.write({b"a": b"1"})
        world.disk.heal()
        written = 0
        for _ in range(30):
            try:
                store.write({b"b": b"2"})
                written += 1
            except FatalError:
                assert written == 0
        assert (written > 0) == recovers
        store.close()
        assert world.keys() == (b"b" if recovers else b"")


def test_an_older_copy_can_be_put_in_a_folders_place() -> None:
    world = World()
    store = world.open()
    store.write({b"a": b"1"})
    copy = world.disk.snapshot(FOLDER)
    store.write({b"b": b"2"})
    store.close()
    for _ in range(2):
        world.disk.put_back(FOLDER, copy)
        assert world.keys() == b"a"
        store = world.open()
        store.write({b"c": b"3"})
        store.close()
    world.disk.lose(FOLDER)
    assert not world.disk.exists(FOLDER)
    assert world.keys() == b""


def test_what_is_moved_while_it_is_open_keeps_what_the_log_took() -> None:
    world = World()
    store = world.open()
    store.write({b"a": b"1"})
    aside = FOLDER.with_suffix(".aside")
    world.disk.rename(FOLDER, aside)
    store.close()
    world.disk.rename(aside, FOLDER)
    assert world.keys() == b"a"
    for path, to in ((aside, FOLDER), (FOLDER, aside)):
        world.disk.folder(FOLDER)
        with pytest.raises(OSError, match=r"No such file|not empty"):
            world.disk.rename(path, to)
        world.disk.folder(aside)


def test_a_dead_process_does_nothing() -> None:
    world = World()
    store = world.open()
    dead = SimulatedEngine(world.disk, world.process)
    world.kill()
    calls = [*_calls(store).values(), store.close, lambda: RocksDBStore(FOLDER, dead)]
    for call in calls:
        with pytest.raises(Crashed):
            call()
    assert world.keys() == b""
    assert world.disk.locked() == []


def test_a_store_that_is_closed_twice_is_a_bug() -> None:
    store = World().open()
    store.close()
    with pytest.raises(AssertionError, match="closed twice"):
        store.close()
