"""A definition as a Mermaid state diagram, drawn from the table that runs, so that the picture cannot drift.

`[*]` is `absent`: before creation and after deletion. A proposal's name ends in `?`, behind a timer's stands when it is
due, and guards stand in brackets.
See https://mermaid.js.org/syntax/stateDiagram.html.
"""

from __future__ import annotations

from collections.abc import Iterator

from placet.processors.arming import Arming
from placet.processors.machine import Machine, Transition
from placet.schemas.definition.grammar import written_ms
from placet.schemas.messages import Kind
from placet.schemas.state import ABSENT

__all__ = ["GUARD_LENGTH_MAX", "mermaid", "when_due"]

GUARD_LENGTH_MAX = 80
"""Longest guard in a label; the rest is cut off."""

_ENDS = "[*]"
_BLOCKS = ("choice", "fork", "hide", "join", "note", "scale", "state")
_STYLES = ("class", "classdef", "click", "default", "direction", "href", "root", "style")
_WORDS = frozenset((*_BLOCKS, *_STYLES, "acctitle", "accdescr", "as", "end"))
"""Words of Mermaid: a status of such a name gets an alias."""

# Characters that Mermaid reads as syntax inside a label, as its entity codes.
_ESCAPES = str.maketrans(
    {"#": "#35;", "%": "#37;", ";": "#59;", ":": "#58;", "<": "#60;", ">": "#62;", '"': "#34;", "\n": " "}
)


def mermaid(machine: Machine) -> str:
    """The `stateDiagram-v2` text of a machine, with a final newline."""
    lines = [
        "stateDiagram-v2",
        f"    %% {machine.entity}, version {machine.version}; [*] is absent, a proposal ends in ?",
        "    direction LR",
    ]
    lines += [f'    state "{status}" as {_name(status)}' for status in machine.statuses if status in _WORDS]
    lines += [f"    {start} --> {target}: {label}" for start, target, label in _edges(machine)]
    lines += [f"    {_name(status)} --> {_ENDS}" for status in machine.final]
    return "\n".join(lines) + "\n"


def _edges(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """Each transition that can be chosen, once: from, to, label. One that stays is an edge from a status to itself."""
    for (kind, name, status), transitions in machine.table.items():
        always: set[bool] = set()  # late facts have transitions of their own
        for transition in transitions:
            if transition.late not in always:
                target = status if transition.target is None else transition.target
                yield _name(status), _name(target), _label(_head(machine, kind, name, status, transition), transition)
            if transition.guard is None:
                always.add(transition.late)


def _name(status: str) -> str:
    if status == ABSENT:
        return _ENDS
    return f"{status}_" if status in _WORDS else status


def _head(machine: Machine, kind: Kind, name: str, status: str, transition: Transition) -> str:
    if kind is Kind.TIMER:
        [arming] = [one for one in machine.arming[status] if one.name == name]
        return f"{name} {when_due(arming)}"
    return f"{name}?" if kind is Kind.PROPOSAL else f"{name} (late)" if transition.late else name


def when_due(arming: Arming) -> str:
    """When a timer is due, in words: `after 30s`, or `at state.valid_to`."""
    return f"at state.{arming.field}" if arming.field else f"after {written_ms(arming.after_ms)}"


def _label(head: str, transition: Transition) -> str:
    guard = " ".join(transition.guard_text.split())
    if not guard:
        return head
    short = guard if len(guard) <= GUARD_LENGTH_MAX else f"{guard[: GUARD_LENGTH_MAX - 1]}…"
    return f"{head} [{short.translate(_ESCAPES)}]"
