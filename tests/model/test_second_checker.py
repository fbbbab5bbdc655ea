"""Honest histories pass the second checker; a history with one planted lie does not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.lamp import LAMP
from tests.model.second_checker import check
from tests.model.second_histories import Recorded, limited, rationed, rich, ticking, timed, told
from tests.model.second_lies import COUNTED, SIGNED, TIMED, UNSIGNED, Log, undecided


@pytest.mark.parametrize("seed", range(200))
def test_an_honest_history_passes(seed: int) -> None:
    assert check(rich(seed).history(), settled=True) == []


@pytest.mark.parametrize("seed", range(100))
def test_an_honest_history_with_timers_passes(seed: int) -> None:
    gate = ticking(seed)
    assert check(gate.history(), settled=True, now_ms=gate.driver.now_ms) == []


@pytest.mark.parametrize("seed", range(150))
def test_an_honest_history_with_limits_passes(seed: int) -> None:
    gate = rationed(seed)
    assert check(gate.history(), settled=True, now_ms=gate.driver.now_ms) == []


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


@pytest.mark.parametrize("name", TIMED)
def test_a_lie_about_timers_is_found(name: str) -> None:
    gate = timed()
    log, (lie, said) = Log(gate.history()), TIMED[name]
    lie(log)
    log.sign()
    found = check(log.told(), settled=True, now_ms=gate.driver.now_ms)
    assert any(said in sentence for sentence in found), found


@pytest.mark.parametrize("name", COUNTED)
def test_a_lie_about_windows_is_found(name: str) -> None:
    log, (lie, said) = Log(limited().history()), COUNTED[name]
    lie(log)
    log.sign()
    found = check(log.told(), settled=True)
    assert any(said in sentence for sentence in found), found


@pytest.mark.parametrize("history", [told, timed, limited])
def test_the_history_for_the_lies_is_honest(history: Callable[[], Recorded]) -> None:
    gate = history()
    log = Log(gate.history())
    log.sign()
    assert log.told().topics["test.lamp.ledger"][0] == list(log.history.topics["test.lamp.ledger"][0])
    assert check(log.told(), settled=True, now_ms=gate.driver.now_ms) == []


def test_a_timer_that_waits_is_no_lie_unless_a_time_is_given() -> None:
    gate = timed()
    assert check(gate.history(), settled=True) == []
    late = check(gate.history(), settled=True, now_ms=gate.driver.now_ms + 1_402)
    assert late == ["partition 0: the timer 'wears' of 'b' was due at 1767226309501, and has not fired"]


def test_what_waits_is_no_lie_until_all_is_settled() -> None:
    log = Log(told().history())
    undecided(log, 0)
    assert check(log.told(), settled=False) == []
    assert len(check(log.told(), settled=True)) == 1
