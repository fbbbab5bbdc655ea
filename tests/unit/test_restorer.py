"""The thread that restores: what it does when a task's store can't be opened."""

from __future__ import annotations

import time
from concurrent.futures import Future
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from placet.processors.rules import Rules
from placet.streams.entity_type import EntityType
from placet.streams.errors import FatalError, LogUnreachable, TaskStopped
from placet.streams.host import LocalHost
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.recovery.restore_thread import Job, Restorer, RestoreResult
from placet.streams.recovery.set_aside import SetAside
from placet.streams.state import rocksdb
from placet.streams.state.store import MemoryStore, StoreDamaged
from placet.streams.topology import TaskId
from placet.testing import TestDriver
from tests.lamp import InPieces, lamp, lamps
from tests.memory_log import MemoryLog, log_of
from tests.staged import StagedHost


def kind_of(driver: TestDriver, id_of: str = "{}") -> EntityType:
    ids = {topic: id_of.format(found) for topic, found in driver.entity_type.topic_ids.items()}
    return EntityType("app", Rules(driver.machine, driver.codec), driver.topics, ids, 1)


def restorer_of(driver: TestDriver, folder: Path, make_log: Any = None, *more: Any, **calls: Any) -> Restorer:
    host = StagedHost(now_ms=lambda: driver.now_ms, **calls)
    return Restorer(host, host, make_log or (lambda: log_of(driver)), folder, *more)


def next_of(restorer: Restorer) -> RestoreResult:
    deadline_s = time.monotonic() + 20
    while (done := restorer.take_done()) is None:
        assert time.monotonic() < deadline_s, "the restore never ends"
        time.sleep(0.01)
    return done


def restored(driver: TestDriver, folder: Path, id_of: str = "{}", **calls: Any) -> RestoreResult:
    restorer = restorer_of(driver, folder, **calls)
    try:
        restorer.submit(Job(TaskId("lamp", 0), kind_of(driver, id_of)))
        return next_of(restorer)
    finally:
        restorer.close()


def opened(outcome: RestoreResult) -> rocksdb.RocksDBStore:
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
    outcome = restored(lamp(), tmp_path, "another-{}")
    assert isinstance(outcome.error, TaskStopped)
    assert "created anew" in str(outcome.error)
    rocksdb.RocksDBStore(tmp_path / "app" / "lamp" / "0").close()  # and not StoreLocked


def test_where_no_store_can_be_made_the_process_ends_and_says_why(tmp_path: Path) -> None:
    class Full(rocksdb.RocksDB):
        def open(self, *_: object, **__: object) -> Any:
            raise OSError("No space left on device")

    outcome = restored(lamp(), tmp_path, open_store=lambda folder: rocksdb.RocksDBStore(folder, Full()))
    assert isinstance(outcome.error, FatalError)
    assert "No space left on device" in str(outcome.error)


def test_a_task_that_waits_for_a_transaction_lets_the_others_go_first(tmp_path: Path) -> None:
    driver = lamp()
    ended = Event()

    def committed(partitions: list[TopicPartition]) -> dict[TopicPartition, int | None] | None:
        """A transaction is open that has positions of partition 0."""
        if partitions[0].partition == 0 and not ended.is_set():
            return None
        return MemoryLog.committed(log, partitions)

    log = InPieces(driver, 4)
    log.committed = committed  # type: ignore[method-assign, assignment]
    restorer = restorer_of(driver, tmp_path, lambda: log)
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


def test_a_task_whose_leader_is_away_lets_the_others_go_first_and_says_so(tmp_path: Path) -> None:
    driver = lamp()
    elected: Future[int] = Future()

    def ask_ends(partitions: list[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        answers = MemoryLog.ask_ends(log, partitions)
        return {**answers, partitions[1]: elected} if partitions[1].partition == 0 else answers

    log = InPieces(driver, 4)
    log.ask_ends = ask_ends  # type: ignore[method-assign]
    restorer = restorer_of(driver, tmp_path, lambda: log)
    try:
        jobs = [Job(TaskId("lamp", partition), kind_of(driver)) for partition in (0, 1)]
        for job in jobs:
            restorer.submit(job)
        first = next_of(restorer)
        assert first.job is jobs[1], "it came later, and its leaders answer"
        opened(first).close()
        assert jobs[0].waits_for == "the leader of test.lamp.ledger-0 does not answer"
        elected.set_result(len(driver.ledger))
        second = next_of(restorer)
        assert second.job is jobs[0]
        assert jobs[0].waits_for == ""
        opened(second).close()
    finally:
        restorer.close()


class Silent(InPieces):
    """A log that gives nothing to read of some partitions."""

    def __init__(self, driver: TestDriver, silent: set[int], partitions: int) -> None:
        super().__init__(driver, 4, lamps(driver, partitions))
        self.silent = silent
        self.begun: list[int] = []

    def start(self, partition: TopicPartition, position: int) -> None:
        self.begun.append(partition.partition)
        super().start(partition, position)

    def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
        return ([], None) if partition.partition in self.silent else super().take(partition)


def test_only_some_restores_read_at_a_time_and_one_that_gets_nothing_gives_its_room_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaders of four tasks fell silent after they had answered: the fifth task is restored all the same."""
    monkeypatch.setattr("placet.streams.recovery.restore_thread._PATIENCE_S", 0.05)
    driver = lamp()
    log = Silent(driver, {0, 1, 2, 3}, 6)
    restorer = restorer_of(driver, tmp_path, lambda: log)
    try:
        jobs = [Job(TaskId("lamp", number), kind_of(driver)) for number in range(6)]
        for job in jobs:
            restorer.submit(job)
        for _ in (4, 5):
            done = next_of(restorer)
            assert done.job in jobs[4:]
            opened(done).close()
        assert log.begun[:4] == [0, 1, 2, 3]
        log.silent.clear()
        for _ in range(4):
            opened(next_of(restorer)).close()
    finally:
        restorer.close()


def test_restores_take_turns(tmp_path: Path) -> None:
    """Small ones are not kept waiting until a large one has ended."""
    driver = lamp()
    log = Silent(driver, set(), 2)
    log.append(TopicPartition(driver.topics.changelog, 0), 0, b"no end", None)
    endless = iter(range(1_000_000))

    def take(partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
        if partition == (driver.topics.changelog, 0):
            return [ConsumerRecord(*partition, next(endless), 0, b"another", None, None)], None
        return Silent.take(log, partition)

    log.take = take  # type: ignore[method-assign]
    restorer = restorer_of(driver, tmp_path, lambda: log)
    try:
        jobs = [Job(TaskId("lamp", number), kind_of(driver)) for number in (0, 1)]
        for job in jobs:
            restorer.submit(job)
        done = next_of(restorer)
        assert done.job is jobs[1]
        assert jobs[0].records > 0
        opened(done).close()
        jobs[0].cancel()
    finally:
        restorer.close()
    rocksdb.RocksDBStore(tmp_path / "app" / "lamp" / "0").close()  # and not StoreLocked


@pytest.mark.parametrize("steps", range(8))
def test_a_restore_that_is_cancelled_gives_its_store_back_wherever_it_stands(tmp_path: Path, steps: int) -> None:
    driver = lamp()
    store = rocksdb.RocksDBStore(tmp_path / "app" / "lamp" / "0")
    log, taken = InPieces(driver, 1), Event()

    def poll() -> None:
        nonlocal steps
        steps -= 1
        if steps < 0:
            job.cancel()
            taken.set()

    log.poll = poll  # type: ignore[method-assign]
    restorer = restorer_of(driver, tmp_path, lambda: log)
    try:
        job = Job(TaskId("lamp", 0), kind_of(driver), store)
        restorer.submit(job)
        assert taken.wait(20)
    finally:
        restorer.close()
    rocksdb.RocksDBStore(tmp_path / "app" / "lamp" / "0").close()  # and not StoreLocked


def test_a_job_that_was_cancelled_before_it_began_gives_its_store_back(tmp_path: Path) -> None:
    driver, store = lamp(), rocksdb.RocksDBStore(tmp_path / "app" / "lamp" / "0")
    restorer = restorer_of(driver, tmp_path)
    job = Job(TaskId("lamp", 0), kind_of(driver), store)
    job.cancel()
    restorer.submit(job)
    restorer.close()
    rocksdb.RocksDBStore(tmp_path / "app" / "lamp" / "0").close()  # and not StoreLocked


def test_each_run_of_jobs_has_clients_of_its_own(tmp_path: Path) -> None:
    driver, made = lamp(), []
    restorer = restorer_of(driver, tmp_path, lambda: made.append(1) or log_of(driver))  # type: ignore[func-returns-value]
    try:
        for _ in range(2):
            restorer.submit(Job(TaskId("lamp", 0), kind_of(driver)))
            opened(next_of(restorer)).close()
    finally:
        restorer.close()
    assert len(made) == 2, "kept ones would ask leaders of long ago"


def test_a_log_that_broke_is_made_anew_and_all_restores_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("placet.streams.recovery.restore_thread._RETRY_AFTER_S", 0.01)
    driver = lamp()
    made: list[InPieces] = []

    class Breaking(InPieces):
        """Breaks in the first run, once both restores read."""

        def poll(self) -> None:
            if len(made) == 1 and len(self._read_at) == 2:
                self.broken = "its connection went"

        def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
            if self.broken:
                raise LogUnreachable(self.broken)
            return super().take(partition)

    restorer = restorer_of(driver, tmp_path, lambda: made.append(Breaking(driver, 1, lamps(driver, 2))) or made[-1])
    try:
        for partition in (0, 1):
            restorer.submit(Job(TaskId("lamp", partition), kind_of(driver)))
        for _ in range(2):
            opened(next_of(restorer)).close()
        assert len(made) == 2
    finally:
        restorer.close()


def test_what_can_not_be_read_of_one_partition_keeps_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("placet.streams.recovery.restore_thread._RETRY_AFTER_S", 0.01)
    driver, mended = lamp(), Event()

    class Removed(InPieces):
        def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
            if partition.partition == 0 and not mended.is_set():
                raise LogUnreachable("what was to be read next is not in the log")
            return super().take(partition)

    made: list[InPieces] = []
    restorer = restorer_of(driver, tmp_path, lambda: made.append(Removed(driver, 1, lamps(driver, 2))) or made[-1])
    try:
        for partition in (0, 1):
            restorer.submit(Job(TaskId("lamp", partition), kind_of(driver)))
        first = next_of(restorer)
        assert first.job.task_id.partition == 1
        opened(first).close()
        mended.set()
        opened(next_of(restorer)).close()
        assert len(made) == 1
    finally:
        restorer.close()


def damaged(driver: TestDriver, restorer: Restorer, why: str = "Corruption: block checksum mismatch") -> RestoreResult:
    """What becomes of a task whose store turned out to be damaged while it ran."""
    restorer.submit(Job(TaskId("lamp", 0), kind_of(driver), None, why))
    return next_of(restorer)


def test_a_store_that_was_damaged_while_it_ran_is_set_aside_first_and_told_of(tmp_path: Path) -> None:
    driver = lamp()
    restorer = restorer_of(driver, tmp_path)
    folder = tmp_path / "app" / "lamp" / "0"
    try:
        restorer.submit(Job(TaskId("lamp", 0), kind_of(driver)))
        first = opened(next_of(restorer))
        states = first.scan(b"s", b"s", 10)
        first.close()
        (folder / "it is this one").touch()
        again = opened(damaged(driver, restorer))
        assert again.scan(b"s", b"s", 10) == states
        again.close()
        assert (tmp_path / "app" / "lamp" / "0.aside" / "it is this one").exists()
        [aside] = restorer.take_set_aside()
        assert aside[:3] == ("store damaged", TaskId("lamp", 0), tmp_path / "app" / "lamp" / "0.aside")
        assert "checksum" in aside.why
        assert restorer.take_set_aside() == []
    finally:
        restorer.close()


def test_a_store_that_is_damaged_again_soon_after_stops_its_task_and_no_other(tmp_path: Path) -> None:
    """Rebuilding for ever would hide a bad disk."""
    driver = lamp()
    restorer = restorer_of(driver, tmp_path)
    try:
        opened(damaged(driver, restorer)).close()
        outcome = damaged(driver, restorer)
        assert isinstance(outcome.error, TaskStopped)
        assert outcome.store is None
        assert "lamp-0: its store is damaged again 0 s after it was set aside" in str(outcome.error)
        restorer.submit(Job(TaskId("lamp", 1), kind_of(driver), None, "Corruption"))
        opened(next_of(restorer)).close()
        rocksdb.RocksDBStore(tmp_path / "app" / "lamp" / "0").close()  # and not StoreLocked
    finally:
        restorer.close()


def test_a_store_that_breaks_whenever_it_is_filled_stops_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise StoreDamaged("Corruption: met while it was filled")

    monkeypatch.setattr(rocksdb.RocksDBStore, "write", breaks)
    outcome = restored(lamp(), tmp_path)
    assert isinstance(outcome.error, TaskStopped)
    assert "met while it was filled" in str(outcome.error)


def test_a_folder_that_is_taken_by_a_file_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "lamp").write_text("not a folder")
    outcome = restored(lamp(), tmp_path)
    assert isinstance(outcome.error, FatalError)
    assert f"{tmp_path}/app/lamp/0 can't be written" in str(outcome.error)


def test_a_folder_that_can_not_be_set_aside_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuses)
    driver = lamp()
    restorer = restorer_of(driver, tmp_path)
    try:
        opened(restored(driver, tmp_path)).close()
        outcome = damaged(driver, restorer)
        assert isinstance(outcome.error, FatalError)
        assert "0 can't be used (Corruption: block checksum mismatch) and can't be set aside as" in str(outcome.error)
    finally:
        restorer.close()


def test_only_the_last_folder_set_aside_is_kept(tmp_path: Path) -> None:
    folder, asides = tmp_path / "0", SetAside(LocalHost(), LocalHost().monotonic_s)
    for name in ("first", "second"):
        folder.mkdir()
        (folder / name).touch()
        asides.foreign(TaskId("lamp", 0), folder, "another cluster's")
    assert [path.name for path in (tmp_path / "0.aside").iterdir()] == ["second"]
    assert [aside.event for aside in asides.take()] == ["store set aside"] * 2
    asides.foreign(TaskId("lamp", 0), folder, "gone by itself")
    assert (tmp_path / "0.aside" / "second").exists(), "nothing came in its place"


def test_a_task_waits_for_the_rules_that_its_states_were_written_by(tmp_path: Path) -> None:
    driver, control, known = lamp(), TopicPartition("app.control", 0), [0]
    log = log_of(driver)
    log.append(control, driver.now_ms, b"definition/lamp/2", b"published before the states were written")
    looked = Event()

    def position() -> int:
        looked.set()
        return known[0]

    restorer = restorer_of(driver, tmp_path, lambda: log, control, position)
    try:
        restorer.submit(Job(TaskId("lamp", 0), kind_of(driver)))
        assert looked.wait(10)
        assert restorer.take_done() is None
        known[0] = 1
        opened(next_of(restorer)).close()
    finally:
        restorer.close()


def test_a_folder_that_another_process_holds_delays_its_own_task_only(tmp_path: Path) -> None:
    driver = lamp()
    held = rocksdb.RocksDBStore(tmp_path / "app" / "lamp" / "0")
    restorer = restorer_of(driver, tmp_path)
    try:
        jobs = [Job(TaskId("lamp", partition), kind_of(driver)) for partition in (0, 1)]
        for job in jobs:
            restorer.submit(job)
        first = next_of(restorer)
        assert first.job is jobs[1]
        opened(first).close()
        assert "lamp/0 is in use by another process" in jobs[0].waits_for
        held.close()
        second = next_of(restorer)
        assert second.job is jobs[0]
        opened(second).close()
    finally:
        restorer.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_beside_the_restores_ends_the_process_and_none_waits_for_ever(tmp_path: Path) -> None:
    driver, log = lamp(), InPieces(lamp(), 4)

    def poll() -> None:
        raise ZeroDivisionError("a bug")

    log.poll = poll  # type: ignore[method-assign]
    restorer = restorer_of(driver, tmp_path, lambda: log)
    restorer.submit(Job(TaskId("lamp", 0), kind_of(driver)))
    first = next_of(restorer)
    assert isinstance(first.error, FatalError)
    assert "ZeroDivisionError: a bug" in str(first.error)
    restorer._thread.join(10)
    restorer.submit(Job(TaskId("lamp", 1), kind_of(driver)))
    assert isinstance(next_of(restorer).error, FatalError)
    restorer.close()


def test_rules_are_waited_for_from_the_moment_on_when_they_are_asked_for(tmp_path: Path) -> None:
    """And not from the beginning: a transaction may have kept the restore waiting for longer than that."""
    driver, clock = lamp(), [1_000.0]
    host = StagedHost(now_ms=lambda: driver.now_ms, monotonic_s=lambda: clock[0])
    restorer = Restorer(host, host, lambda: log_of(driver), tmp_path, TopicPartition("app.control", 0), lambda: 0)
    restoration = restorer._restoration(Job(TaskId("lamp", 0), kind_of(driver)), MemoryStore())
    clock[0] += 60
    assert not restoration.rules_known(1)
    clock[0] += 4
    assert not restoration.rules_known(1)
    clock[0] += 2
    assert restoration.rules_known(1)
    restorer.close()


def test_a_task_that_only_asks_is_restored_though_another_ones_reading_broke_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that was closed answers nobody any more: not the question that waits, nor the next one."""
    monkeypatch.setattr("placet.streams.recovery.restore_thread._RETRY_AFTER_S", 0.01)
    driver, made = lamp(), list[InPieces]()

    class Breaks(InPieces):
        def ask_committed(self, partitions: list[TopicPartition]) -> Future[dict[TopicPartition, int | None] | None]:
            if made[0] is self and partitions[0].partition == 1:
                return Future()
            return super().ask_committed(partitions)

        def poll(self) -> None:
            if made[0] is self and self._read_at:
                self.broken = "its connection went"

        def take(self, partition: TopicPartition) -> tuple[list[ConsumerRecord], int | None]:
            if self.broken:
                raise LogUnreachable(self.broken)
            return super().take(partition)

    def make() -> InPieces:
        made.append(Breaks(driver, 1, lamps(driver, 2)))
        return made[-1]

    restorer = restorer_of(driver, tmp_path, make)
    for partition in (0, 1):
        restorer.submit(Job(TaskId("lamp", partition), kind_of(driver)))
    found = [next_of(restorer) for _ in (0, 1)]
    assert [(done.error, done.restored is not None) for done in found] == [(None, True), (None, True)]
    for done in found:
        assert done.store is not None
        done.store.close()
    restorer.close()
