"""The ladder against a model that shares no code with it: random definitions, random histories, every decision."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, note, seed

from tests.property.game import Game
from tests.property.strategies import as_yaml, definitions, histories, thorough


def both_decide_alike(rules: dict[str, Any], history: list[bytes]) -> None:
    note(as_yaml(rules))
    game = Game(rules)
    game.play(history)
    game.restart()
    game.compare_states()


@thorough(1_000)
@given(definitions(), histories(30))
def test_the_gate_and_the_naive_model_decide_alike(rules: dict[str, Any], history: list[bytes]) -> None:
    both_decide_alike(rules, history)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("part", range(1, 11))
def test_they_do_in_20_000_histories_more(part: int) -> None:
    @seed(part)
    @thorough(2_000)
    @given(definitions(), histories(30))
    def decide(rules: dict[str, Any], history: list[bytes]) -> None:
        both_decide_alike(rules, history)

    decide()
