"""The ladder against a model that shares no code with it: random definitions, random histories, every decision."""

from __future__ import annotations

from hypothesis import given, note

from tests.property.game import Game
from tests.property.strategies import as_yaml, definitions, histories, thorough


@thorough(1_000)
@given(definitions(), histories(30))
def test_the_gate_and_the_naive_model_decide_alike(rules: dict, history: list[bytes]) -> None:
    note(as_yaml(rules))
    game = Game(rules)
    game.play(history)
    game.restart()
    game.compare_states()
