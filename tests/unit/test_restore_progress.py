"""A restore says how far it is: what was read, and how much is still ahead, down to nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from placet.streams.recovery.restore import restore
from placet.streams.state.store import MemoryStore
from placet.testing import TestDriver
from tests.property.test_restore import LAMP, InPieces, job_of


def lamp() -> TestDriver:
    driver = TestDriver.from_text(LAMP)
    driver.signal("l", "installed", signal_id="s-0")
    for number in range(1, 30):
        driver.signal("l", "changed", {"watts": number}, signal_id=f"s-{number}")
    return driver


def progress_of(driver: TestDriver, store: MemoryStore) -> list[tuple[int, int | None]]:
    told: list[tuple[int, int | None]] = []

    def on_progress(read: int, ahead: int | None) -> bool:
        told.append((read, ahead))
        return True

    restored = restore(replace(job_of(driver, 0, 1, store), on_progress=on_progress), InPieces(driver, 4))
    assert restored is not None
    assert restored.records == sum(read for read, _ in told)
    return told


def test_what_is_ahead_is_known_before_the_first_record_and_shrinks_to_nothing() -> None:
    driver = lamp()
    told = progress_of(driver, MemoryStore())
    records = len(driver.changelog) + len(driver.ledger)
    assert told[0] == (0, records)
    assert all((before or 0) - (after or 0) == read for (_, before), (read, after) in pairwise(told))
    assert told[-1][1] == 0


def test_a_store_that_is_behind_has_only_the_tail_ahead() -> None:
    driver, store = lamp(), MemoryStore()
    progress_of(driver, store)
    driver.signal("l", "changed", {"watts": 99}, signal_id="s-last")
    told = progress_of(driver, store)
    assert told[0] == (0, 2), "one change, one commit"


def test_while_a_transaction_is_open_nobody_knows() -> None:
    driver = lamp()
    told: list[int | None] = []

    class Opened(InPieces):
        """The first look finds positions that are not stable yet."""

        def __init__(self) -> None:
            super().__init__(driver, 100)
            answers = iter([None])
            self.committed = lambda partitions: next(answers, driver.log.committed(partitions))  # type: ignore[assignment,return-value]

    def on_progress(_read: int, ahead: int | None) -> bool:
        told.append(ahead)
        return True

    restore(replace(job_of(driver, 0, 1, MemoryStore()), on_progress=on_progress), Opened())
    assert told[0] is None
    assert told[-1] == 0
