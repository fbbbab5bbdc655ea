"""What is warned about, against a walk: every way through the compiled table, one input after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from placet.definitions import parse_definition, problems_of
from placet.processors.machine import Machine, compile_machine
from placet.schemas.definition.coverage import warnings
from placet.schemas.messages import Kind
from tests.property.strategies import Dice, thorough

STATUSES = ("a", "b", "c", "d")
SECTIONS = {Kind.SIGNAL: "signals", Kind.PROPOSAL: "proposals"}


def drawn() -> SearchStrategy[dict[str, Any]]:
    return st.binary(min_size=150, max_size=150).map(lambda data: _rules(Dice(data)))


def _rules(dice: Dice) -> dict[str, Any]:
    statuses = STATUSES[: dice.pick((3, 2, 4, 1))]
    final = dice.some(statuses) if dice.pick((False, True)) else []
    signals = {name: _rule(dice, statuses, final) for name in ("f", "g", "h")[: dice.pick((2, 3, 1))]}
    for rule in signals.values():
        rule["dedup"] = dice.pick(("key", "once", "newest"))
    proposals = {name: _rule(dice, statuses, final) for name in ("p", "q", "r")[: dice.pick((2, 3, 1))]}
    return {
        "entity": "thing", "version": 1, "statuses": list(statuses), "final": final,
        "fields": {"n": {"type": "int", "default": 0}}, "signals": signals, "proposals": proposals,
    }  # fmt: skip


def _rule(dice: Dice, statuses: tuple[str, ...], final: list[str]) -> dict[str, Any]:
    return {"transitions": [_transition(dice, statuses, final) for _ in range(dice.pick((1, 2, 3)))]}


def _transition(dice: Dice, statuses: tuple[str, ...], final: list[str]) -> dict[str, Any]:
    to = dice.pick((*statuses, None, "absent"))
    known = ("absent", *statuses)
    free = [one for one in known if one not in final or to in (None, "absent", one)]
    from_: Any = dice.some(free) or "any" if dice.pick((True, True, False)) else "any"
    assigns = dice.pick((False, True)) and to != "absent" and not ("absent" in from_ and to is None)
    return {
        "from": from_,
        **({} if to is None else {"to": to}),
        **({"guard": dice.pick(("true", "false"))} if dice.pick((False, True)) else {}),
        **({"set": {"n": 1}} if assigns else {}),
    }


class Step(NamedTuple):
    """One input that was accepted."""

    rule: tuple[str, str]
    number: int
    before: str
    after: str
    sets: bool


def walk(machine: Machine, status: str, inputs: int) -> Iterator[Step]:
    """Every accepted input of every history of so many inputs; a guard may hold or not."""
    for rule in machine.rules.values() if inputs else ():
        for transition in rule.transitions.get(status, ()):
            after = status if transition.target is None else transition.target
            name = (SECTIONS[rule.kind], rule.name)
            yield Step(name, transition.number, status, after, bool(transition.assignments))
            yield from walk(machine, after, inputs - 1)
            if transition.guard is None:
                break


class Seen:
    """All steps that can be taken; asked again from each status, as histories are many and statuses are few."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.steps: set[Step] = set()
        waiting = {"absent"}
        self.met: set[str] = set()
        while waiting:
            status = waiting.pop()
            self.met.add(status)
            found = set(walk(machine, status, 1))
            self.steps |= found
            waiting |= {step.after for step in found} - self.met

    def later(self, status: str) -> set[str]:
        """All statuses of the same life from here on."""
        lives, new = {status}, {status}
        while new:
            new = {step.after for step in self.steps if step.before in lives - {"absent"}} - lives
            lives |= new
        return lives


def expected(written: dict[str, Any], machine: Machine) -> set[tuple[tuple[Any, ...], str]]:
    """Paths of what is to be warned about, and the word by which its kind is known."""
    seen = Seen(machine)
    if seen.met == {"absent"}:
        return {((), "creates")}
    found: set[tuple[tuple[Any, ...], str]] = set()
    for index, status in enumerate(machine.statuses):
        if status not in seen.met:
            found.add((("statuses", index), "reaches"))
        if status not in machine.final and all(step.after == status for step in walk(machine, status, 1)):
            found.add((("statuses", index), "leaves"))
    taken = {(step.rule, step.number) for step in seen.steps}
    for section in SECTIONS.values():
        for name, rule in written[section].items():
            for number in range(len(rule["transitions"])):
                if ((section, name), number) not in taken:
                    found.add(((section, name, "transitions", number), "tried"))
    for name in written["proposals"]:
        steps = [step for step in seen.steps if step.rule == ("proposals", name)]
        if steps and not any(step.sets or step.before != step.after for step in steps):
            found.add((("proposals", name), "change"))
    for name, rule in written["signals"].items():
        if missed := _missed(seen, name, rule["dedup"]):
            found.add((("signals", name), f"come in {', '.join(sorted(missed))},"))
    return found


def _missed(seen: Seen, name: str, dedup: str) -> set[str]:
    steps = [step for step in seen.steps if step.rule == ("signals", name)]
    again = any(step.before == step.after for step in steps) and dedup == "key"
    where = set().union(*(seen.later(step.after) for step in steps)) if again else set()
    covered = seen.machine.rules[Kind.SIGNAL, name].transitions.keys()
    return (seen.met if dedup == "newest" else where) - covered - {"absent", *seen.machine.final}


@thorough(600)
@given(drawn())
def test_warnings_are_what_a_walk_through_the_table_never_meets(written: dict[str, Any]) -> None:
    text = yaml.safe_dump(written, sort_keys=False)
    if problems_of(text):
        return  # two finals that are left, a transition behind one without guard: errors, not warnings
    definition = parse_definition(text)
    found = warnings(definition)
    wanted = expected(written, compile_machine(definition))

    assert {problem.path for problem in found} == {path for path, _ in wanted}
    assert len(found) == len(wanted)
    for path, word in wanted:
        assert any(word in problem.message for problem in found if problem.path == path), (path, word, found)


@thorough(60)
@given(drawn(), st.integers(1, 4))
def test_no_history_meets_what_is_warned_about(written: dict[str, Any], inputs: int) -> None:
    text = yaml.safe_dump(written, sort_keys=False)
    if problems_of(text):
        return
    definition = parse_definition(text)
    dead = {problem.path for problem in warnings(definition) if "never tried" in problem.message}
    unmet = {problem.message for problem in warnings(definition) if "nothing reaches" in problem.message}
    for step in walk(compile_machine(definition), "absent", inputs):
        assert (*step.rule, "transitions", step.number) not in dead
        assert f"nothing reaches {step.after}" not in unmet
