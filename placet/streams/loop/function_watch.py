"""Tells of a `python:` function that does not return: nothing can end it, and its gate decides nothing meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from placet.processors.address import partition_of
from placet.processors.expressions.scope import FunctionCall, Scope
from placet.streams.entity_type import EntityType
from placet.streams.loop.observer import Observer
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.topology import TaskId

__all__ = ["FunctionWatch"]

_TOLD_AFTER_S: Final = 10.0


class FunctionWatch:
    """Looks at the calls of functions from another thread than the loop's.

    Args:
        rules: the entity types that the gate decides for, by the rules in force.
        observer: is told, once for each call.
    """

    def __init__(self, rules: RulesInForce, observer: Observer) -> None:
        self._rules, self._observer = rules, observer
        self._scope: Scope | None = None
        self._seen_s = 0.0

    def look(self, pause_s: float) -> None:
        """Tell of a call that ran at the looks of ten seconds. A process that stands still looks at nothing.

        Args:
            pause_s: so long after the look before.
        """
        running, self._scope = self._scope, None
        for kind, place, call in self._calls():
            scope = call.scope
            if scope is None:
                continue
            before_s = self._seen_s if scope is running else -pause_s
            self._scope, self._seen_s = scope, before_s + pause_s
            if before_s < _TOLD_AFTER_S <= self._seen_s:
                self._tell(kind, place, call, scope)
            return

    def _calls(self) -> Iterator[tuple[EntityType, str, FunctionCall]]:
        for kind in self._rules.entity_types.values():
            for place, call in kind.rules.machine.functions:
                yield kind, place, call

    def _tell(self, kind: EntityType, place: str, call: FunctionCall, scope: Scope) -> None:
        entity = kind.rules.machine.entity
        task = TaskId(entity, partition_of(scope.entity_id.encode(), kind.partitions))
        self._observer.event(
            "function does not return", task=str(task), function=call.reference, rule=place,
            entity_id=scope.entity_id, event_time=scope.event_time,
            why=f"it was called {_TOLD_AFTER_S:g} s ago; this gate decides nothing until it returns",
        )  # fmt: skip
