"""A restore says how far it is: what was read, and how much is still ahead, down to nothing."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from itertools import pairwise

import pytest

from placet.streams.errors import LogBehind, LogUnreachable
from placet.streams.records import TopicPartition
from placet.streams.recovery.restore import restore
from placet.streams.state.store import MemoryStore
from placet.testing import TestDriver
from tests.lamp import InPieces, job_of, lamp
from tests.memory_log import MemoryLog, log_of


def progress_of(driver: TestDriver, store: MemoryStore) -> list[tuple[int, int | None]]:
    """What a restore tells, step by step, from the moment on when it knows what is ahead."""
    steps = restore(job_of(driver, 0, 1, store), InPieces(driver, 4))
    return [(step.read, step.ahead) for step in steps if step.ahead is not None]


def ledger_of(driver: TestDriver) -> TopicPartition:
    return TopicPartition(driver.topics.ledger, 0)


def offsets_of(driver: TestDriver) -> int:
    """How many offsets a restore has ahead: of records, and of the markers between them."""
    return sum(driver.log.end(TopicPartition(topic, 0)) for topic in (driver.topics.changelog, driver.topics.ledger))


def test_what_is_ahead_is_known_before_the_first_record_and_shrinks_to_nothing() -> None:
    driver = lamp()
    told = progress_of(driver, MemoryStore())
    records, ahead = len(driver.changelog) + len(driver.ledger), offsets_of(driver)
    assert told[0] == (0, ahead)
    assert all((before or 0) - (after or 0) >= read for (_, before), (read, after) in pairwise(told))
    assert (sum(read for read, _ in told), told[-1][1]) == (records, 0)


def test_a_store_that_is_behind_has_only_the_tail_ahead() -> None:
    driver, store = lamp(), MemoryStore()
    progress_of(driver, store)
    driver.signal("l", "changed", {"watts": 99}, signal_id="s-last")
    told = progress_of(driver, store)
    assert told[0] == (0, 4), "one change, one commit, and a marker behind each"


def test_while_a_transaction_is_open_nobody_knows_what_is_ahead_and_why_is_said() -> None:
    driver = lamp()
    log, answers = InPieces(driver, 100), iter([None, None])
    log.committed = lambda partitions: next(answers, driver.log.committed(partitions))  # type: ignore[method-assign,assignment,return-value]
    steps = list(restore(job_of(driver, 0, 1, MemoryStore()), log))
    assert [step.ahead for step in steps[:2]] == [None, None]
    assert all("the group's positions: a transaction has not ended" in str(step.waits_for) for step in steps[:2])
    assert steps[-1].ahead == 0


def test_a_leader_that_does_not_answer_is_named() -> None:
    driver = lamp()
    log, answer = InPieces(driver, 100), Future[int]()
    ledger = TopicPartition(driver.topics.ledger, 0)
    log.ask_ends = lambda partitions: {**MemoryLog.ask_ends(log, partitions), ledger: answer}  # type: ignore[method-assign]
    steps = restore(job_of(driver, 0, 1, MemoryStore()), log)
    assert [next(steps).waits_for for _ in range(2)] == ["the leader of test.lamp.ledger-0 does not answer"] * 2
    answer.set_exception(LogUnreachable("no broker has it"))
    with pytest.raises(LogUnreachable, match=r"test\.lamp\.ledger-0: no broker has it"):
        next(steps)


def test_wherever_a_restore_is_given_up_the_next_one_goes_on() -> None:
    """Also between the genesis and the first commit, which are far apart in a ledger that was compacted."""
    driver, whole = lamp(), MemoryStore()
    steps_of_all = len(list(restore(job_of(driver, 0, 1, whole), InPieces(driver, 1))))
    for given_up in range(1, steps_of_all):
        store = MemoryStore()
        steps = restore(job_of(driver, 0, 1, store), InPieces(driver, 1))
        for _ in range(given_up):
            next(steps)
        steps.close()
        progress_of(driver, store)
        assert store.scan(b"", b"", 9_999) == whole.scan(b"", b"", 9_999)


@pytest.mark.parametrize("given_up", [2, 9, 40, 10_000])
def test_what_was_read_of_the_ledger_behind_a_deposed_leader_of_the_changelog_is_read_again(given_up: int) -> None:
    """What the ledger applies to a state is lost where the changes before it come later, over it."""
    driver, whole = lamp(), MemoryStore()
    driver.signal("l", "changed", {"watts": 29}, signal_id="s-same")
    driver.signal("l", "installed", signal_id="s-refused")
    assert any((record.key or b"").startswith(b"applied/") for record in log_of(driver).records(ledger_of(driver)))
    progress_of(driver, whole)
    changelog = TopicPartition(driver.topics.changelog, 0)
    for end in range(0, driver.log.end(changelog), 7):
        store, log = MemoryStore(), log_of(driver)
        log.put(changelog, [record for record in log.records(changelog) if record.offset < end], end)
        steps = restore(job_of(driver, 0, 1, store), InPieces(driver, 1, log))
        with suppress(LogBehind, StopIteration):
            for _ in range(given_up):
                next(steps)
        steps.close()
        progress_of(driver, store)
        assert store.scan(b"", b"", 9_999) == whole.scan(b"", b"", 9_999)


def test_a_restore_that_is_given_up_midway_leaves_a_store_that_the_next_one_goes_on_with() -> None:
    driver, store, whole = lamp(), MemoryStore(), MemoryStore()
    for given_up in range(1, 7):
        log = InPieces(driver, 2)
        steps = restore(job_of(driver, 0, 1, store), log)
        for _ in range(given_up):
            next(steps)
        steps.close()
        assert log._read_at == {}, "it reads nothing any more"
    told = progress_of(driver, store)
    assert told[0][1] is not None
    assert 0 < told[0][1] < offsets_of(driver)
    progress_of(driver, whole)
    assert store.scan(b"", b"", 9_999) == whole.scan(b"", b"", 9_999)
