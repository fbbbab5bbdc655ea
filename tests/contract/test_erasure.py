"""What was deleted leaves the disk: the files of a store that is open, and the folders that no task uses any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from placet.streams.host import LocalHost
from placet.streams.state.rocksdb import RocksDBStore

SECRET, NAME = b"an address that was deleted", b"s000005-jane.doe"
SECOND_S = 1


def holding(folder: Path, found: bytes) -> list[str]:
    """The files in which these bytes are: of no file that is removed meanwhile."""
    names = []
    for file in sorted(folder.rglob("*")):
        try:
            if file.is_file() and found in file.read_bytes():
                names.append(file.name)
        except FileNotFoundError:
            continue
    return names


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)


def filled(folder: Path) -> RocksDBStore:
    """A store in which the secret lies among much else, in a file that nothing has to merge any more."""
    store, random = RocksDBStore(folder), Random(1)
    with store.filling(100_000) as write:
        for number in range(0, 8_000, 100):
            write({b"s%06d" % key: random.randbytes(500) for key in range(number, number + 100)})
        write({NAME: SECRET, b"a" + NAME: SECRET, b"z" + NAME: SECRET})  # the first and last keys stand elsewhere too
    return store


def cleaned(store: RocksDBStore, folder: Path, found: bytes) -> bool:
    store.clean(SECOND_S)
    return not holding(folder, found)


@pytest.mark.parametrize("merged", [False, True], ids=["small", "merged"])
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_what_was_deleted_leaves_the_files_of_a_store_in_which_nothing_happens(
    tmp_path: Path, merged: bool, closed: bool
) -> None:
    store = filled(tmp_path)
    if merged:
        store.clean(SECOND_S)
    assert holding(tmp_path, SECRET)
    store.write(dict.fromkeys((NAME, b"a" + NAME, b"z" + NAME)))
    if closed:
        store.close()
        store = RocksDBStore(tmp_path)
    wait_until(lambda: cleaned(store, tmp_path, SECRET), "the values are gone")
    wait_until(lambda: cleaned(store, tmp_path, NAME), "so are the keys, in each file")
    assert len(store.scan(b"s", b"s", 9_999)) == 8_000
    store.close()


def test_what_was_overwritten_leaves_the_files_too(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.write(dict.fromkeys((NAME, b"a" + NAME, b"z" + NAME), b"another one"))
    wait_until(lambda: cleaned(store, tmp_path, SECRET), "the old values are gone")
    assert store.get(NAME) == b"another one"
    store.close()


def test_a_folder_of_stores_tells_when_each_was_written_last(tmp_path: Path) -> None:
    for name in ("lamp/0", "lamp/1", "order/12"):
        RocksDBStore(tmp_path / name).close()
    (tmp_path / "lamp" / "0").rename(tmp_path / "lamp" / "0.aside")
    (tmp_path / "lamp" / "notes").mkdir()
    (tmp_path / "lamp" / "notes" / "file").write_text("not a store")
    (tmp_path / "lamp" / "7").mkdir()
    an_hour_ago_s = time.time() - 3_600
    for file in (tmp_path / "order" / "12").rglob("*"):
        os.utime(file, (an_hour_ago_s, an_hour_ago_s))
    host = LocalHost()
    found = dict(host.stores(tmp_path))
    assert sorted(found) == [tmp_path / name for name in ("lamp/0.aside", "lamp/1", "order/12")]
    assert found[tmp_path / "order" / "12"] == pytest.approx(an_hour_ago_s * 1000, abs=1)
    assert host.now_ms() - found[tmp_path / "lamp" / "1"] < 60_000
    assert host.stores(tmp_path / "nothing") == []


def test_a_folder_that_somebody_has_open_is_not_removed(tmp_path: Path) -> None:
    store, host = RocksDBStore(tmp_path / "lamp" / "0"), LocalHost()
    assert not host.remove_unused(tmp_path / "lamp" / "0")
    store.write({b"a": b"1"})
    store.close()
    assert host.remove_unused(tmp_path / "lamp" / "0")
    assert not (tmp_path / "lamp" / "0").exists()
    assert list((tmp_path / "lamp").iterdir()) == []
