"""What a definition must fulfil beyond its grammar: names exist, types fit, statuses connect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from placet.schemas.definition_errors import Problem, suggest
from placet.schemas.state import ABSENT
from placet.schemas.strict_yaml import Path

if TYPE_CHECKING:
    from placet.schemas.definition import Definition

__all__ = ["check", "expressions", "warnings"]


def expressions(definition: Definition) -> Iterator[tuple[Path, object]]:
    for section, name, rule in definition.rules():
        for index, transition in enumerate(rule.transitions):
            at = (section, name, "transitions", index)
            if transition.guard is not None:
                yield (*at, "guard"), transition.guard
            for field, value in transition.assigned.items():
                yield (*at, "set", field), value
    for name, text in definition.invariants.items():
        yield ("invariants", name), text


def check(definition: Definition) -> Iterator[Problem]:
    yield from ()


def warnings(definition: Definition) -> Iterator[Problem]:
    yield from ()
