"""How long an answer is waited for: what is known of answers decides, and a slow broker gets as long as it needs."""

from __future__ import annotations

import pytest

from placet.streams.kafka.adaptive_timeout import AdaptiveTimeout


@pytest.fixture
def patience() -> AdaptiveTimeout:
    return AdaptiveTimeout(at_first_s=4, least_s=1.5, most_s=10, growth=2)


def test_answers_make_it_short_but_not_shorter_than_a_pause_of_a_sound_broker(patience: AdaptiveTimeout) -> None:
    assert patience.limit_s == 4
    patience.answered(0.01)
    assert patience.limit_s == 1.5


def test_each_answer_that_does_not_come_makes_it_longer_up_to_the_most(patience: AdaptiveTimeout) -> None:
    patience.answered(0.01)
    limits = []
    for _ in range(4):
        patience.in_vain()
        limits.append(patience.limit_s)
    assert limits == [3, 6, 10, 10]


def test_brokers_that_always_take_two_seconds_are_waited_for_after_two_tries(patience: AdaptiveTimeout) -> None:
    """With one short limit for all, nothing would ever be committed there."""
    patience.answered(0.01)
    in_vain = 0
    for _ in range(20):
        if patience.limit_s < 2:
            patience.in_vain()
            in_vain += 1
        else:
            patience.answered(2)
    assert in_vain == 1
