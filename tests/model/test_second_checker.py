"""Honest histories pass the second checker; a history with one planted lie does not."""

from __future__ import annotations

import time

import pytest

from tests.lamp import LAMP
from tests.model.second_checker import check
from tests.model.second_histories import Recorded, rich, told
from tests.model.second_lies import SIGNED, UNSIGNED, Log, undecided


@pytest.mark.parametrize("seed", range(200))
def test_an_honest_history_passes(seed: int) -> None:
    assert check(rich(seed).history(), settled=True) == []


def test_the_plain_lamp_passes() -> None:
    gate = Recorded(LAMP, 1)
    gate("signal", "l", "installed", signal_id="s-0")
    for number in range(1, 30):
        gate("signal", "l", "changed", {"watts": number}, signal_id=f"s-{number}")
    assert check(gate.history(), settled=True) == []


@pytest.mark.alone
def test_a_check_takes_less_than_four_milliseconds() -> None:
    history = rich(4, 50).history()

    def took() -> float:
        before = time.perf_counter()
        check(history, settled=True)
        return time.perf_counter() - before

    assert min(took() for _ in range(50)) < 0.004


@pytest.mark.parametrize("name", [*SIGNED, *UNSIGNED])
def test_a_lie_is_found(name: str) -> None:
    log = Log(told().history())
    lie, said = (SIGNED | UNSIGNED)[name]
    lie(log)
    if name in SIGNED:
        log.sign()
    found = check(log.told(), settled=True)
    assert any(said in sentence for sentence in found), found


def test_the_history_for_the_lies_is_honest() -> None:
    log = Log(told().history())
    log.sign()
    assert log.told().topics["test.lamp.ledger"][0] == list(log.history.topics["test.lamp.ledger"][0])
    assert check(log.told(), settled=True) == []


def test_what_waits_is_no_lie_until_all_is_settled() -> None:
    log = Log(told().history())
    undecided(log, 0)
    assert check(log.told(), settled=False) == []
    assert len(check(log.told(), settled=True)) == 1
