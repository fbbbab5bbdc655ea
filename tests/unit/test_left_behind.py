"""Stores that no task uses, and folders that were set aside, are gone within the retention."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from placet.streams.host import LocalHost
from placet.streams.recovery.left_behind import LeftBehind
from placet.streams.recovery.restore_thread import Restorer
from placet.streams.state.rocksdb import RocksDBStore
from tests.lamp import lamp
from tests.memory_log import log_of
from tests.staged import StagedHost

DAY_MS = 86_400_000
RETENTION_MS = 8 * DAY_MS


class Later:
    """A machine on which some days have passed since its files were written."""

    def __init__(self, folder: Path) -> None:
        self.days = 0.0
        self.host = StagedHost(now_ms=lambda: LocalHost().now_ms() + round(self.days * DAY_MS))
        self.left_behind = LeftBehind(self.host, self.host.now_ms, folder / "app", RETENTION_MS)

    def removed(self, days: float) -> list[str]:
        self.days = days
        return [f"{aside.event} {aside.task_id} {aside.folder.name}" for aside in self.left_behind.remove()]


def left(folder: Path) -> list[str]:
    return sorted(str(found.relative_to(folder)) for found in folder.glob("*/*/*"))


def test_what_no_task_uses_is_gone_within_the_retention(tmp_path: Path) -> None:
    for name in ("app/lamp/0", "app/lamp/1", "app/lamp/1.aside", "app/gone/3", "other/lamp/0"):
        RocksDBStore(tmp_path / name).close()
    (tmp_path / "app" / "lamp" / "notes").mkdir()
    held = RocksDBStore(tmp_path / "app" / "lamp" / "0")
    later = Later(tmp_path)
    assert later.removed(0) == []
    assert later.removed(6.9) == []
    assert later.removed(8) == [f"store removed {name}" for name in ("gone-3 3", "lamp-1 1", "lamp-1 1.aside")]
    assert left(tmp_path) == ["app/lamp/0", "app/lamp/notes", "other/lamp/0"]
    held.close()
    assert later.removed(8.5) == [], "not looked at so soon"
    assert later.removed(9) == ["store removed lamp-0 0"]


def test_a_clock_that_is_set_back_delays_nothing(tmp_path: Path) -> None:
    RocksDBStore(tmp_path / "app" / "lamp" / "0").close()
    later = Later(tmp_path)
    later.removed(7_000 / 8)
    RocksDBStore(tmp_path / "app" / "lamp" / "0").close()
    assert later.removed(8) == ["store removed lamp-0 0"]


def test_what_can_not_be_removed_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("app/lamp/0", "app/lamp/1"):
        RocksDBStore(tmp_path / name).close()
    later = Later(tmp_path)

    def refuse(path: Path) -> bool:
        if path.name == "0":
            raise PermissionError(1, "Operation not permitted")
        return LocalHost().remove_unused(path)

    monkeypatch.setattr(later.host, "remove_unused", refuse, raising=False)
    assert later.removed(10) == ["store not removed lamp-0 0", "store removed lamp-1 1"]
    monkeypatch.undo()
    assert later.removed(11) == ["store removed lamp-0 0"]


def test_a_gate_tells_what_it_removed_before_it_restores_anything(tmp_path: Path) -> None:
    RocksDBStore(tmp_path / "app" / "lamp" / "1").close()
    later, driver = Later(tmp_path), lamp()
    later.days = 8
    restorer = Restorer(
        later.host, later.host, lambda: log_of(driver), tmp_path, remove_unused=later.left_behind.remove
    )
    deadline_s = time.monotonic() + 20
    while not (told := restorer.take_set_aside()):
        assert time.monotonic() < deadline_s, "it is told"
        time.sleep(0.01)
    restorer.close()
    assert [(aside.event, str(aside.task_id), aside.why) for aside in told] == [
        ("store removed", "lamp-1", "nothing was written to it for 192 h")
    ]
    assert left(tmp_path) == []
