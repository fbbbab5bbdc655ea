"""A `python:` function that does not return: nothing can end it, so somebody has to be told which one it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from placet import Scope
from placet.definitions import parse_definition
from placet.processors.machine import compile_machine
from placet.streams.kafka.watchdog import Watchdog
from placet.streams.loop.function_watch import FunctionWatch
from tests.staged import StagedHost
from tests.unit.verify_history import DEFINITION

MODULE = "rules_that_are_looked_at"


class Watched:
    """A gate of orders whose function is looked at while it runs."""

    def __init__(self) -> None:
        self.told = MagicMock()
        text = DEFINITION.read_text().replace("payload.value > 100", f"python:{MODULE}:hot@1")
        self.machine = compile_machine(parse_definition(text))
        kind = SimpleNamespace(rules=SimpleNamespace(machine=self.machine), partitions=4)
        watch = FunctionWatch(cast("Any", SimpleNamespace(entity_types={"order": kind})), self.told)
        self.look = watch.look

    def call(self, entity_id: str, looks: int) -> None:
        """Let the function take so long that it is looked at so often."""
        (transition,) = self.machine.table[next(key for key in self.machine.table if key[1] == "temperature")]
        assert transition.guard is not None
        payload: Any = {"value": lambda: [self.look(1.0) for _ in range(looks)]}
        transition.guard(Scope({}, payload, "open", 1, entity_id, 77, 99, ""))


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    (tmp_path / f"{MODULE}.py").write_text("def hot_v1(scope):\n    return bool(scope.payload['value']())\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Watched()


def test_a_function_that_does_not_return_is_told_once(watched: Watched) -> None:
    watched.call("order-1", looks=11)
    (told,) = watched.told.event.mock_calls
    assert told.args == ("function does not return",)
    assert told.kwargs["task"] == "order-2"
    assert told.kwargs["function"].endswith(":hot@1")
    assert (told.kwargs["rule"], told.kwargs["entity_id"]) == ("signals.temperature.transitions.0.guard", "order-1")
    assert told.kwargs["event_time"] == 77
    watched.call("order-1", looks=40)
    assert len(watched.told.event.mock_calls) == 2, "once for each call"


def test_many_calls_that_return_are_none_that_does_not(watched: Watched) -> None:
    for _ in range(4):
        watched.call("order-1", looks=10)
        watched.look(1.0)
    assert watched.told.event.mock_calls == []


def test_a_call_that_failed_is_over(watched: Watched) -> None:
    ((_, call),) = watched.machine.functions
    call.evaluate(Scope({}, {"value": 0}, "open", 1, "order-1", 0, 0, ""))
    assert call.scope is None


def test_the_watchdog_looks_at_functions_too() -> None:
    looked: list[float] = []
    host = StagedHost(spawn=lambda _name, work: work(), flag=lambda: SimpleNamespace(wait=lambda _: len(looked) == 3))
    Watchdog(host, 20_000, looked.append)
    assert looked == [1.0, 1.0, 1.0]
