"""Damage in RocksDB's files is told at the first call that meets it, and told apart from a disk that refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from placet.streams.errors import FatalError
from placet.streams.state.rocksdb import RocksDB, RocksDBStore
from placet.streams.state.store import StoreDamaged
from tests.contract.machines import (
    KEYS,
    Machine,
    RealMachine,
    SimulatedMachine,
    contents,
    filled,
    flip,
    get_all,
    write_much,
)  # fmt: skip


@pytest.fixture(params=["rocksdb", "simulated"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return RealMachine(tmp_path) if request.param == "rocksdb" else SimulatedMachine()


@pytest.fixture
def damaged(machine: Machine) -> Iterator[RocksDBStore]:
    """A store that opens, though bits of its data are flipped."""
    filled(machine)
    machine.damage()
    store = machine.open()
    yield store
    store.close()


def data_file(folder: Path) -> Path:
    """Return the one file of data of a store that is closed."""
    filled(RealMachine(folder))
    (file,) = (folder / "0" / "db").glob("*.sst")
    return file


def test_a_get_tells_of_damage(damaged: RocksDBStore) -> None:
    with pytest.raises(StoreDamaged, match="0: Corruption"):
        get_all(damaged)


def test_a_scan_does_not_take_damage_for_the_end(damaged: RocksDBStore) -> None:
    with pytest.raises(StoreDamaged, match="0: Corruption"):
        damaged.scan(b"s", b"s", len(KEYS))


def test_a_scan_that_meets_damage_behind_what_it_can_read_tells_it_too(tmp_path: Path) -> None:
    flip(data_file(tmp_path), 0.4, 0.6)
    store = RocksDBStore(tmp_path / "0")
    assert len(store.scan(b"s", b"s", 100)) == 100, "what lies before can be read"
    with pytest.raises(StoreDamaged):
        store.scan(b"s", b"s", len(KEYS))
    store.close()


def test_what_a_compaction_met_is_told_by_a_write(damaged: RocksDBStore) -> None:
    """In the background, minutes after the last read: RocksDB takes no write from then on."""
    with pytest.raises(StoreDamaged, match="0: Corruption"):
        write_much(damaged.write)


def test_damage_that_a_filling_meets_is_told(damaged: RocksDBStore) -> None:
    with pytest.raises(StoreDamaged), damaged.filling(1_000_000) as write:
        write_much(write)


def test_damage_that_opening_meets_is_told_and_leaves_no_lock(machine: Machine) -> None:
    filled(machine)
    machine.damage_what_opening_reads()
    for _ in range(2):
        with pytest.raises(StoreDamaged, match="0: Corruption"):
            machine.open()
    machine.set_aside()
    assert contents(machine) == []


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_to_nothing(file: Path) -> None:
    file.with_name("CURRENT").write_bytes(b"")


def flip_the_footer(file: Path) -> None:
    flip(file, 0.9999, 1)


@pytest.mark.parametrize("damage", [cut, cut_to_nothing, flip_the_footer, Path.unlink])
def test_damage_that_is_met_by_opening_is_told(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(data_file(tmp_path))
    for _ in range(2):  # it did not stay locked
        with pytest.raises(StoreDamaged, match="0: "):
            RocksDBStore(tmp_path / "0")


@pytest.mark.parametrize("found_by", ["get", "scan", "write"])
def test_after_damage_the_folder_can_be_set_aside_and_a_new_store_made_in_its_place(
    machine: Machine, found_by: str
) -> None:
    """While the error is still at hand: what it refers to must not keep the database open."""
    filled(machine)
    machine.damage()
    store = machine.open()
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: get_all(store),
        "scan": lambda: store.scan(b"s", b"s", len(KEYS)),
        "write": lambda: write_much(store.write),
    }
    with pytest.raises(StoreDamaged) as error:
        calls[found_by]()
    store.close()
    machine.set_aside()
    again = machine.open()
    assert again.scan(b"", b"", 1) == []
    again.write({b"a": b"1"})
    again.close()
    assert "Corruption" in str(error.value)


@pytest.mark.parametrize("reason", ["No space left on device", "Read-only file system", "Too many open files"])
def test_a_machine_that_refuses_is_no_damage(tmp_path: Path, reason: str) -> None:
    class Refuses(RocksDB):
        def open(self, *_: object, **__: object) -> Any:
            raise Exception(f"IO error: {reason}: While open a file for random read")  # noqa: TRY002 - as rocksdict does

    for _ in range(2):
        with pytest.raises(FatalError, match=rf"0 can't be written.*{reason}.*make room"):
            RocksDBStore(tmp_path / "0", Refuses())


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "0", Path("/proc/nope/0")):
        with pytest.raises(FatalError, match=f"{folder} can't be written"):
            RocksDBStore(folder)


def test_files_that_vanish_while_it_runs_are_damage(machine: Machine) -> None:
    filled(machine)
    store = machine.open()
    machine.lose()
    with pytest.raises(StoreDamaged, match="0: IO error: No such file or directory: While open a file for appending"):
        write_much(store.write)
    store.close()


def test_a_store_that_vanished_before_it_is_filled_is_not_made_anew(machine: Machine) -> None:
    """Positions that are written behind the filling would cover what nobody has any more."""
    filled(machine)
    store = machine.open()
    machine.lose()
    with pytest.raises(StoreDamaged, match=r"0: Invalid argument: .*does not exist"), store.filling(1_000_000):
        pass
    store.close()
