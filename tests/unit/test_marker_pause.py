"""The pause before a transaction follows what the markers of the one before take."""

from __future__ import annotations

from random import Random

import pytest

from placet.streams.kafka.marker_pause import MarkerPause

ASKS_AGAIN_S = 0.02
DELIVERY_S = 0.003


def pause_after(markers_s: float, transactions: int, delivery_s: float = DELIVERY_S) -> tuple[float, float]:
    """Commit so many transactions, each at once after the other; return the pause, and the share of those told to wait.

    Markers take as long as is said, and a fifth more or less.
    """
    pause, random, told = MarkerPause(), Random(1), 0
    for number in range(transactions):
        early = pause.pause_s < markers_s * random.uniform(0.8, 1.2)
        told += early and number > transactions // 2
        pause.learn(pause.pause_s, delivery_s * random.uniform(0.9, 1.5) + early * ASKS_AGAIN_S)
    return pause.pause_s, told / (transactions // 2)


@pytest.mark.parametrize("markers_s", [0.001, 0.002, 0.005, 0.012])
def test_the_pause_is_about_as_long_as_markers_take_and_few_are_told_to_wait(markers_s: float) -> None:
    pause_s, told = pause_after(markers_s, 4_000)
    assert 0.6 * markers_s < pause_s < 2.2 * markers_s
    assert told < 0.02


@pytest.mark.parametrize("markers_s", [0.02, 0.03, 0.1])
def test_no_pause_is_longer_than_being_told_to_wait(markers_s: float) -> None:
    for transactions in range(2, 400, 20):
        assert pause_after(markers_s, transactions)[0] <= ASKS_AGAIN_S


def test_a_transaction_long_after_the_last_commit_tells_nothing_of_markers() -> None:
    pause = MarkerPause()
    before_s = pause.pause_s
    for delivery_s in (0.003, 0.2, 0.003, 0.4):
        pause.learn(0.06, delivery_s)
    assert pause.pause_s == before_s


def test_where_all_deliveries_take_longer_from_now_on_the_pause_shrinks_again() -> None:
    pause = MarkerPause()
    for _ in range(100):
        pause.learn(0.003, DELIVERY_S)
    for _ in range(400):
        pause.learn(0.003, 0.04)
    highest_s = pause.pause_s
    for _ in range(2_000):
        pause.learn(0.003, 0.04)
    assert pause.pause_s < highest_s / 10
