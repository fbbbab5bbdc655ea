"""Determinism: given recorded order, times and definition, what comes out is the same, however it is run.

Without timers: when one fires, among the inputs of other entities, is up to who runs it. That it has its place among
those of its own is in `test_ladder`, and `placet verify` runs it again where it is recorded.
"""

from __future__ import annotations

from itertools import groupby

from hypothesis import given, note
from hypothesis import strategies as st

from placet.streams.loop.order import in_log_time_order
from tests.property.game import PARTITIONS, Game
from tests.property.recorded import Input, Replica, recorded_inputs, recorded_outcomes
from tests.property.strategies import Dice, as_yaml, definitions, histories, thorough

choices = st.binary(min_size=60, max_size=60)


@thorough(100)
@given(definitions(timers=False), histories(40), choices)
def test_cutting_the_recorded_sequence_into_other_batches_changes_nothing(
    rules: dict, history: list[bytes], cuts: bytes
) -> None:
    note(as_yaml(rules))
    game = Game(rules, calm=True)
    game.play(history)
    dice = Dice(cuts)
    for partition in range(PARTITIONS):
        recorded, replica = recorded_inputs(game.driver, partition), Replica(game.driver, partition, PARTITIONS)
        for _, same_clock in groupby(recorded, key=lambda taken: taken.decided_at):
            for batch in _cut(list(same_clock), dice):
                replica.process(batch)
        assert replica.outcomes() == recorded_outcomes(game.driver, partition)


def _cut(inputs: list[Input], dice: Dice) -> list[list[Input]]:
    """Cut anywhere; and where a batch would be taken in another order than the recorded one (equal log times)."""
    batches: list[list[Input]] = [[]]
    for taken in inputs:
        together = [each.record for each in (*batches[-1], taken)]
        if dice.pick((False, True)) or list(in_log_time_order(together)) != together:
            batches.append([])
        batches[-1].append(taken)
    return [batch for batch in batches if batch]


@thorough(100)
@given(definitions(timers=False), histories(40), choices)
def test_independent_entities_may_change_places(rules: dict, history: list[bytes], choices: bytes) -> None:
    note(as_yaml(rules))
    game = Game(rules, still=True)
    game.play(history)
    for partition in range(PARTITIONS):
        replica = Replica(game.driver, partition, PARTITIONS)
        for taken in _interleaved(recorded_inputs(game.driver, partition), Dice(choices)):
            replica.process([taken])
        assert replica.outcomes() == recorded_outcomes(game.driver, partition)


def _interleaved(inputs: list[Input], dice: Dice) -> list[Input]:
    """Another order in which each key's inputs follow one another as before."""
    lanes: dict[bytes | None, list[Input]] = {}
    for taken in inputs:
        lanes.setdefault(taken.record.key, []).append(taken)
    mixed = []
    while lanes:
        key = dice.pick(list(lanes))
        mixed.append(lanes[key].pop(0))
        if not lanes[key]:
            del lanes[key]
    return mixed


@thorough(100)
@given(definitions(timers=False), histories(40))
def test_replaying_gives_the_same_records(rules: dict, history: list[bytes]) -> None:
    """The same batches again, into an empty store: not only what was decided, but every record to the byte."""
    note(as_yaml(rules))
    game = Game(rules, calm=True)
    game.play(history)
    for partition in range(PARTITIONS):
        recorded = recorded_inputs(game.driver, partition)
        first, second = (Replica(game.driver, partition, PARTITIONS) for _ in range(2))
        for replica in (first, second):
            for taken in recorded:
                replica.process([taken])
        assert first.records == second.records
        assert first.outcomes() == recorded_outcomes(game.driver, partition)
