"""What is warned about, against a walk: every way through the compiled table, one input or timer after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator
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
SECTIONS = {Kind.SIGNAL: "signals", Kind.PROPOSAL: "proposals", Kind.TIMER: "timers"}


def drawn() -> SearchStrategy[dict[str, Any]]:
    return st.binary(min_size=200, max_size=200).map(lambda data: _rules(Dice(data)))


def _rules(dice: Dice) -> dict[str, Any]:
    statuses = STATUSES[: dice.pick((3, 2, 4, 1))]
    final = dice.some(statuses) if dice.pick((False, True)) else []
    signals = {name: _rule(dice, statuses, final) for name in ("f", "g", "h")[: dice.pick((2, 3, 1))]}
    for rule in signals.values():
        rule["dedup"] = dice.pick(("key", "once", "newest"))
    proposals = {name: _rule(dice, statuses, final) for name in ("p", "q", "r")[: dice.pick((2, 3, 1))]}
    timers = {name: _timer(dice, statuses, final) for name in ("y", "z")[: dice.pick((1, 2, 0))]}
    time = {"type": "timestamp | null", "default": 7} if dice.pick((False, False, True)) else "timestamp | null"
    return {
        "entity": "thing", "version": 1, "statuses": list(statuses), "final": final,
        "fields": {"n": {"type": "int", "default": 0}, "t": time}, "signals": signals, "proposals": proposals,
        "timers": timers,
    }  # fmt: skip


def _timer(dice: Dice, statuses: tuple[str, ...], final: list[str]) -> dict[str, Any]:
    time = {"at": "state.t"} if dice.pick((False, True)) else {"after": "1m"}
    transitions = [_transition(dice, statuses, final, creates=False) for _ in range(dice.pick((1, 2)))]
    return {"transitions": transitions, **time}


def _rule(dice: Dice, statuses: tuple[str, ...], final: list[str]) -> dict[str, Any]:
    return {"transitions": [_transition(dice, statuses, final) for _ in range(dice.pick((1, 2, 3)))]}


def _transition(dice: Dice, statuses: tuple[str, ...], final: list[str], *, creates: bool = True) -> dict[str, Any]:
    to = dice.pick((*statuses, None, "absent"))
    known = ("absent", *statuses) if creates else statuses
    free = [one for one in known if one not in final or to in (None, "absent", one)]
    from_: Any = dice.some(free) or "any" if dice.pick((True, True, False)) else "any"
    assigns = dice.pick((False, True)) and to != "absent" and not ("absent" in from_ and to is None)
    return {
        "from": from_,
        **({} if to is None else {"to": to}),
        **({"guard": dice.pick(("true", "false"))} if dice.pick((False, True)) else {}),
        **({"set": dice.pick(({"n": 1}, {"t": 5}, {"t": None}))} if assigns else {}),
    }


class Step(NamedTuple):
    """One input that was accepted, or one timer."""

    rule: tuple[str, str]
    number: int
    before: str
    after: str
    sets: bool


def steps_from(machine: Machine, status: str, armed: Collection[str]) -> Iterator[Step]:
    """Every input that may be accepted next, and every timer; a guard may hold or not."""
    for rule in machine.rules.values():
        if rule.kind is Kind.TIMER and rule.name not in armed:
            continue
        for transition in rule.transitions.get(status, ()):
            after = status if transition.target is None else transition.target
            name = (SECTIONS[rule.kind], rule.name)
            yield Step(name, transition.number, status, after, bool(transition.assignments))
            if transition.guard is None:
                break


class Entity(NamedTuple):
    """What a history needs to know of it."""

    status: str
    time: int | None
    armed: frozenset[str]


def histories(written: dict[str, Any], machine: Machine, entity: Entity, steps: int) -> Iterator[Step]:
    """Every step of every history of so many steps, with the time field's value and the timers that wait."""
    for step in steps_from(machine, entity.status, entity.armed) if steps else ():
        yield step
        yield from histories(written, machine, _after(written, entity, step), steps - 1)


def _after(written: dict[str, Any], entity: Entity, step: Step) -> Entity:
    (section, name), status = step.rule, step.after
    armed = entity.armed - {name} if section == "timers" else entity.armed
    given = written[section][name]["transitions"][step.number].get("set", {})
    time = given.get("t", entity.time) if status != "absent" else _at_first(written)
    entered = status != entity.status
    of_status = {
        one: "at" in timer
        for one, timer in written["timers"].items()
        if any(_leaves(written, transition, status) for transition in timer["transitions"])
    }
    anew = {one for one, by_field in of_status.items() if entered or (by_field and time != entity.time)}
    waits = {one for one in anew if not of_status[one] or time is not None}
    return Entity(status, time, frozenset(waits if entered else (armed - anew) | waits))


def _leaves(written: dict[str, Any], transition: dict[str, Any], status: str) -> bool:
    if transition["from"] == "any":
        return status in written["statuses"] and status not in written["final"]
    return status in transition["from"]


def _at_first(written: dict[str, Any]) -> int | None:
    return 7 if isinstance(written["fields"]["t"], dict) else None


class Seen:
    """All steps that can be taken; asked again from each status, as histories are many and statuses are few.

    A timer of a field counts once any step that can be taken gives the field a value: in which status is not asked.
    """

    def __init__(self, written: dict[str, Any], machine: Machine) -> None:
        self.machine = machine
        self.armed = {one for one, timer in written["timers"].items() if "at" not in timer or _at_first(written)}
        while True:
            self._look()
            given = [written[section][name]["transitions"][number] for (section, name), number, *_ in self.steps]
            if self.armed == written["timers"].keys() or not any(one.get("set", {}).get("t") for one in given):
                break
            self.armed = set(written["timers"])

    def _look(self) -> None:
        self.steps: set[Step] = set()
        waiting = {"absent"}
        self.met: set[str] = set()
        while waiting:
            status = waiting.pop()
            self.met.add(status)
            found = set(self.walk(status))
            self.steps |= found
            waiting |= {step.after for step in found} - self.met

    def walk(self, status: str) -> Iterator[Step]:
        """The steps from a status."""
        return steps_from(self.machine, status, self.armed)

    def later(self, status: str) -> set[str]:
        """All statuses of the same life from here on."""
        lives, new = {status}, {status}
        while new:
            new = {step.after for step in self.steps if step.before in lives - {"absent"}} - lives
            lives |= new
        return lives


def expected(written: dict[str, Any], machine: Machine) -> set[tuple[tuple[Any, ...], str]]:
    """Paths of what is to be warned about, and the word by which its kind is known."""
    seen = Seen(written, machine)
    if seen.met == {"absent"}:
        return {((), "creates")}
    found: set[tuple[tuple[Any, ...], str]] = set()
    for index, status in enumerate(machine.statuses):
        if status not in seen.met:
            found.add((("statuses", index), "reaches"))
        if status not in machine.final and all(step.after == status for step in seen.walk(status)):
            found.add((("statuses", index), "leaves"))
    found.update(_never_tried(written, seen))
    for section, word in (("proposals", "can never change"), ("timers", "fires, and never changes")):
        found.update(((section, name), word) for name in written[section] if _never_changes(seen, (section, name)))
    for name, rule in written["signals"].items():
        if missed := _missed(seen, name, rule["dedup"]):
            found.add((("signals", name), f"come in {', '.join(sorted(missed))},"))
    return found


def _never_tried(written: dict[str, Any], seen: Seen) -> Iterator[tuple[tuple[Any, ...], str]]:
    taken = {(step.rule, step.number) for step in seen.steps}
    for section in SECTIONS.values():
        for name, rule in written[section].items():
            if section == "timers" and name not in seen.armed:
                yield (section, name, "at"), "never armed"
                continue
            for number in range(len(rule["transitions"])):
                if ((section, name), number) not in taken:
                    yield (section, name, "transitions", number), "tried"


def _never_changes(seen: Seen, rule: tuple[str, str]) -> bool:
    steps = [step for step in seen.steps if step.rule == rule]
    return bool(steps) and not any(step.sets or step.before != step.after for step in steps)


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
    never = {problem.path[:2] for problem in warnings(definition) if "never armed" in problem.message}
    absent = Entity("absent", _at_first(written), frozenset())
    for step in histories(written, compile_machine(definition), absent, inputs):
        assert (*step.rule, "transitions", step.number) not in dead
        assert step.rule not in never
        assert f"nothing reaches {step.after}" not in unmet
