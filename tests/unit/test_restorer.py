"""The thread that restores: what it does when a task's store can't be opened."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event

import pytest

from placet.streams import rocksdb
from placet.streams.entity_type import EntityType
from placet.streams.errors import FatalError, TaskStopped
from placet.streams.records import TopicPartition
from placet.streams.restorer import Job, Outcome, Restorer
from placet.streams.topology import TaskId
from placet.testing import TestDriver
from tests.property.test_restore import InPieces
from tests.unit.test_restore_progress import lamp


def kind_of(driver: TestDriver, id_of: str = "id-of-{}") -> EntityType:
    ids = {topic: id_of.format(topic) for topic in driver.topics}
    return EntityType("app", driver.machine, driver.codec, driver.topics, ids, 1)


def next_of(restorer: Restorer) -> Outcome:
    deadline_s = time.monotonic() + 20
    while not (done := restorer.take_done()):
        assert time.monotonic() < deadline_s, "the restore never ends"
        time.sleep(0.01)
    (outcome,) = done
    return outcome


def restored(driver: TestDriver, folder: Path, id_of: str = "id-of-{}") -> Outcome:
    restorer = Restorer(lambda: driver.log, folder, lambda: driver.now_ms)
    try:
        restorer.submit(Job(TaskId("lamp", 0), kind_of(driver, id_of)))
        return next_of(restorer)
    finally:
        restorer.close()


def opened(outcome: Outcome) -> rocksdb.RocksDBStore:
    assert outcome.error is None
    assert isinstance(outcome.store, rocksdb.RocksDBStore)
    return outcome.store


def test_a_damaged_store_is_set_aside_and_filled_again(tmp_path: Path) -> None:
    driver = lamp()
    first = opened(restored(driver, tmp_path))
    states = first.scan(b"s", b"s", 10)
    assert states
    first.close()
    (tmp_path / "app" / "lamp" / "0" / "db" / "CURRENT").write_bytes(b"nothing that can be read")
    again = opened(restored(driver, tmp_path))
    assert again.scan(b"s", b"s", 10) == states
    again.close()
    assert (tmp_path / "app" / "lamp" / "0.aside").is_dir()


def test_a_task_whose_log_contradicts_itself_gives_its_store_back(tmp_path: Path) -> None:
    outcome = restored(lamp(), tmp_path, "another-id-of-{}")
    assert isinstance(outcome.error, TaskStopped)
    assert "created anew" in str(outcome.error)
    rocksdb.RocksDBStore(tmp_path / "app" / "lamp" / "0").close()  # and not StoreLocked


def test_where_no_store_can_be_made_the_process_ends_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(rocksdb, "Rdict", full)
    outcome = restored(lamp(), tmp_path)
    assert isinstance(outcome.error, FatalError)
    assert "No space left on device" in str(outcome.error)


def test_a_task_that_waits_for_a_transaction_lets_the_others_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("placet.streams.restorer._PATIENCE_S", 0.05)
    driver = lamp()
    ended = Event()

    def committed(partitions: list[TopicPartition]) -> dict[TopicPartition, int | None] | None:
        """A transaction is open that has positions of partition 0."""
        if partitions[0].partition == 0 and not ended.wait(0.01):
            return None
        return driver.log.committed(partitions)

    log = InPieces(driver, 4)
    log.committed = committed  # type: ignore[method-assign, assignment]
    restorer = Restorer(lambda: log, tmp_path, lambda: driver.now_ms)
    try:
        for partition in (0, 1):
            restorer.submit(Job(TaskId("lamp", partition), kind_of(driver)))
        first = next_of(restorer)
        assert first.job.task_id.partition == 1, "it came later, and waits for nothing"
        opened(first).close()
        ended.set()
        second = next_of(restorer)
        assert second.restored is not None
        assert second.restored.records == len(driver.changelog) + len(driver.ledger)
        assert opened(second).scan(b"s", b"s", 10)
        opened(second).close()
    finally:
        restorer.close()


def test_a_task_waits_for_the_rules_that_its_states_were_written_by(tmp_path: Path) -> None:
    driver, control, known = lamp(), TopicPartition("app.control", 0), [0]
    driver.log.append(control, driver.now_ms, b"definition/lamp/2", b"published before the states were written")
    looked = Event()

    def position() -> int:
        looked.set()
        return known[0]

    restorer = Restorer(lambda: driver.log, tmp_path, lambda: driver.now_ms, control, position)
    try:
        restorer.submit(Job(TaskId("lamp", 0), kind_of(driver)))
        assert looked.wait(10)
        assert restorer.take_done() == []
        known[0] = 1
        opened(next_of(restorer)).close()
    finally:
        restorer.close()
