"""Damage in RocksDB's files is told at the first call that meets it, and told apart from a disk that refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from shutil import rmtree
from typing import Any

import pytest

from placet.streams.errors import FatalError
from placet.streams.state.rocksdb import RocksDB, RocksDBStore
from placet.streams.state.store import StoreDamaged, Writes

KEYS = [b"s%06d" % number for number in range(3_000)]


def filled(folder: Path) -> Path:
    """Close a store whose values are on disk; return its one data file."""
    store, random = RocksDBStore(folder), Random(1)
    store.write({key: random.randbytes(200) for key in KEYS})
    store.close()
    (file,) = (folder / "db").glob("*.sst")
    return file


def get_all(store: RocksDBStore) -> None:
    for key in KEYS:
        store.get(key)


def write_much(write: Callable[[Writes], None]) -> None:
    """More than four files of it: then RocksDB compacts."""
    random = Random(3)
    for _ in range(40):
        write({key: random.randbytes(2_000) for key in KEYS})


def flip(file: Path, begin: float, end: float, bits: int = 64) -> None:
    """Flip bits in a part of a file, in place, as a failing disk does."""
    data, random = bytearray(file.read_bytes()), Random(2)
    for _ in range(bits):
        data[random.randrange(int(len(data) * begin), int(len(data) * end))] ^= 1 << random.randrange(8)
    with file.open("r+b") as out:
        out.write(data)


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[RocksDBStore]:
    """A store that opens, though bits of its data are flipped."""
    flip(filled(tmp_path / "0"), 0, 0.8)
    store = RocksDBStore(tmp_path / "0")
    yield store
    store.close()


def test_a_get_tells_of_damage(damaged: RocksDBStore) -> None:
    with pytest.raises(StoreDamaged, match="0: Corruption"):
        get_all(damaged)


def test_a_scan_does_not_take_damage_for_the_end(damaged: RocksDBStore) -> None:
    with pytest.raises(StoreDamaged, match="0: Corruption"):
        damaged.scan(b"s", b"s", len(KEYS))


def test_a_scan_that_meets_damage_behind_what_it_can_read_tells_it_too(tmp_path: Path) -> None:
    flip(filled(tmp_path / "0"), 0.4, 0.6)
    store = RocksDBStore(tmp_path / "0")
    assert len(store.scan(b"s", b"s", 100)) == 100, "what lies before can be read"
    with pytest.raises(StoreDamaged):
        store.scan(b"s", b"s", len(KEYS))
    store.close()


def test_what_a_compaction_met_is_told_by_a_write(damaged: RocksDBStore) -> None:
    """In the background, minutes after the last read: RocksDB takes no write from then on."""
    with pytest.raises(StoreDamaged, match="0: Corruption"):
        write_much(damaged.write)


def test_damage_that_a_filling_meets_is_told(tmp_path: Path) -> None:
    flip(filled(tmp_path / "0"), 0, 0.8)
    store = RocksDBStore(tmp_path / "0")
    with pytest.raises(StoreDamaged), store.filling(1_000_000) as write:
        write_much(write)
    store.close()


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_to_nothing(file: Path) -> None:
    file.with_name("CURRENT").write_bytes(b"")


def flip_the_footer(file: Path) -> None:
    flip(file, 0.9999, 1)


@pytest.mark.parametrize("damage", [cut, cut_to_nothing, flip_the_footer, Path.unlink])
def test_damage_that_is_met_by_opening_is_told(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    damage(filled(tmp_path / "0"))
    for _ in range(2):  # it did not stay locked
        with pytest.raises(StoreDamaged, match="0: "):
            RocksDBStore(tmp_path / "0")


@pytest.mark.parametrize("found_by", ["get", "scan", "write"])
def test_after_damage_the_folder_can_be_set_aside_and_a_new_store_made_in_its_place(
    tmp_path: Path, found_by: str
) -> None:
    """While the error is still at hand: what it refers to must not keep the database open."""
    flip(filled(tmp_path / "0"), 0, 0.8)
    store = RocksDBStore(tmp_path / "0")
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: get_all(store),
        "scan": lambda: store.scan(b"s", b"s", len(KEYS)),
        "write": lambda: write_much(store.write),
    }
    with pytest.raises(StoreDamaged) as error:
        calls[found_by]()
    store.close()
    (tmp_path / "0").rename(tmp_path / "0.aside")
    again = RocksDBStore(tmp_path / "0")
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


def test_files_that_vanish_while_it_runs_are_damage(tmp_path: Path) -> None:
    filled(tmp_path / "0")
    store = RocksDBStore(tmp_path / "0")
    for file in (tmp_path / "0" / "db").iterdir():
        file.unlink()
    (tmp_path / "0" / "db").rmdir()
    with pytest.raises(StoreDamaged):
        write_much(store.write)
    store.close()


def test_a_store_that_vanished_before_it_is_filled_is_not_made_anew(tmp_path: Path) -> None:
    """Positions that are written behind the filling would cover what nobody has any more."""
    filled(tmp_path / "0")
    store = RocksDBStore(tmp_path / "0")
    rmtree(tmp_path / "0")
    with pytest.raises(StoreDamaged, match="does not exist"), store.filling(1_000_000):
        pass
    store.close()
