"""Random definitions, as plain data for the naive model and as YAML for the gate; random histories as steps.

Everything is read off random bytes, one for each choice, the plainest option first: drawing is fast, and Hypothesis
shrinks towards plain definitions and steps that do nothing. A definition keeps to what `placet definitions check` asks
for, so that it always loads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

__all__ = ["HORIZON_MS", "PAYLOAD", "Dice", "as_yaml", "definitions", "histories", "thorough"]

T = TypeVar("T")

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # five times as fast, where it was built

HORIZON_MS = 600_000
FIELDS: dict[str, dict[str, Any]] = {
    "n": {"type": "int", "default": 0},
    "o": {"type": "int", "optional": True},
    "note": {"type": "string", "optional": True},
    "k": {"type": "long", "default": 3},
    "flag": {"type": "boolean", "default": False},
    "owner": {"type": "string"},  # no default: has to be set at creation
    "until": {"type": "timestamp", "optional": True},
}
PAYLOAD: dict[str, dict[str, Any]] = {
    "x": {"type": "int"},
    "n": {"type": "int", "default": 1},
    "o": {"type": "int", "optional": True},
    "note": {"type": "string", "optional": True},
}


def thorough(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say how many examples a property takes; PLACET_THOROUGH=10 takes ten times as many.

    The examples are the same in every run. Shrinking a failure can take minutes: hence a timeout of its own.
    """
    count = examples * int(os.environ.get("PLACET_THOROUGH", "1"))
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    profile = settings(max_examples=count, deadline=None, derandomize=True, database=None, phases=phases)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        return pytest.mark.timeout(900)(profile(test))

    return decorate


class Dice:
    """Choices read off bytes; when they run out, the first option is taken."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def pick(self, options: Sequence[T]) -> T:
        """Choose one."""
        return options[next(self._data, 0) % len(options)]

    def some(self, options: Sequence[T]) -> list[T]:
        """Choose a part of them, in their order."""
        return [option for option in options if self.pick((False, True))]


def definitions(*, timers: bool = True) -> SearchStrategy[dict[str, Any]]:
    """Definitions as data: statuses, final, fields, inputs, timers, windows, invariants, horizon_ms."""
    return st.binary(min_size=180, max_size=180).map(lambda data: _rules(Dice(data), timers=timers))


def histories(steps: int = 30) -> SearchStrategy[list[bytes]]:
    """Histories of about so many steps: each is bytes for a `Dice`, and all zero bytes mean that nothing happens."""
    one = st.binary(min_size=21, max_size=21)
    return st.lists(one, min_size=steps * 2 // 3, max_size=steps * 4 // 3)


# Expressions ----------------------------------------------------------------------------------------------------------


def _number(dice: Dice, names: list[tuple]) -> tuple:
    tree = dice.pick([("lit", 2), *names, ("name", "version"), ("lit", 0), ("lit", -3)])
    return (dice.pick(("+", "-", "/", "%")), tree, dice.pick([("lit", 2), *names])) if dice.pick((0, 0, 1)) else tree


def _condition(dice: Dice, names: dict[str, list[tuple]], depth: int = 1) -> tuple:
    kind = dice.pick(("<", "<=", "==", "null?", "flag", "text", "older", "!", "&&", "||"))
    if kind in ("&&", "||") and depth:
        return kind, _condition(dice, names, depth - 1), _condition(dice, names, depth - 1)
    if kind == "!" and depth:
        return kind, _condition(dice, names, depth - 1)
    if kind == "null?" and names["optional"]:
        return kind, dice.pick(names["optional"])
    if kind == "flag" and names["flag"]:
        return "==", dice.pick(names["flag"]), ("lit", dice.pick((False, True)))
    if kind == "text" and names["text"]:
        return "==", dice.pick(names["text"]), ("lit", dice.pick(("x", "a", "ann", "order-1")))
    if kind == "older" and names["late"]:
        return kind, dice.pick((0, 5_000, 30_000))
    return dice.pick(("<", "<=", "==")), _number(dice, names["number"]), _number(dice, names["number"])


def _names(
    fields: dict[str, Any], *, payload: bool, absent: bool, windows: Sequence[str] = ()
) -> dict[str, list[tuple]]:
    """What an expression may read: required fields have no value while the entity is absent."""
    state = [name for name in fields if not (absent and name == "owner")]
    at = [("state", name) for name in state]
    given = [("payload", name) for name in PAYLOAD] if payload else []
    number = [tree for tree in at + given if tree[1] in ("n", "k", "x", "o")]
    number += [("window", name) for name in windows]
    return {
        "number": number,
        "optional": [tree for tree in at + given if tree[1] in ("o", "note")],
        "flag": [tree for tree in at if tree[1] == "flag"],
        "text": [t for t in at + given if t[1] in ("note", "owner")]
        + [("name", "status"), ("name", "entity_id"), *([("name", "proposer")] if payload else [])],
        "late": [("name", "event_time")] if payload else [],
    }


def _value(dice: Dice, name: str, names: dict[str, list[tuple]]) -> tuple:
    if name in ("n", "k"):
        # An optional number may not be put plainly into a required field: that is refused at load.
        required = [tree for tree in names["number"] if tree[1] != "o"]
        return _number(dice, required)
    if name == "o":
        return dice.pick([("lit", None), ("payload", "o"), ("payload", "x"), ("+", ("payload", "x"), ("payload", "n"))])
    if name == "note":
        return dice.pick([("lit", "x"), ("lit", None), ("payload", "note"), ("name", "proposer")])
    if name == "until":
        when: list[tuple] = [("name", "event_time"), ("later", 5_000), ("later", 120_000)]
        return dice.pick([("lit", None), *when])
    if name == "flag":
        return dice.pick([("lit", True), ("lit", False), ("<", ("payload", "x"), ("lit", 2))])
    return dice.pick([("name", "proposer"), ("lit", "ann"), ("name", "entity_id")])


# Definitions ----------------------------------------------------------------------------------------------------------


def _rules(dice: Dice, *, timers: bool) -> dict[str, Any]:
    statuses = ["a", "b", "c"][: dice.pick((2, 1, 3, 3))]
    final = statuses[-1:] if len(statuses) > 1 and dice.pick((False, True)) else []
    fields = {name: FIELDS[name] for name in ["n", *dice.some(list(FIELDS)[1:])]}
    rules: dict[str, Any] = {
        "horizon_ms": HORIZON_MS,
        "statuses": statuses,
        "final": final,
        "fields": fields,
        "inputs": {},
        "invariants": {},
        "timers": {},
        "windows": {f"window_{number}": {} for number in range(dice.pick((1, 0, 2, 0)))},
    }
    creation = {"from": ["absent"], "to": "a", "guard": None, "copy": [], "set": _creation(fields)}
    rules["inputs"]["create_it"] = {
        "kind": "SIGNAL",
        "payload": PAYLOAD,
        "dedup": dice.pick(("key", "once", "newest")),
        "late": "apply",
        "elsewhere": dice.pick(("refuse", "ignore")),
        "transitions": [creation],
    }
    for number in range(dice.pick((1, 2, 3, 4))):
        kind = dice.pick(("PROPOSAL", "SIGNAL"))
        rules["inputs"][f"{'act' if kind == 'PROPOSAL' else 'sense'}_{number}"] = _input(dice, kind, rules)
    for number in range(dice.pick((0, 1, 2))):
        timer = _timer(dice, rules)
        if timers:
            rules["timers"][f"time_{number}"] = timer
    for name in rules["windows"]:
        rules["windows"][name] = _window(dice, rules)
    for number in range(dice.pick((0, 0, 1, 2))):
        rules["invariants"][f"law_{number}"] = _law(dice, fields)
    return rules


def _window(dice: Dice, rules: dict[str, Any]) -> dict[str, Any]:
    name = dice.pick([*list(rules["inputs"])[1:], "create_it", *rules["timers"]])
    timer = name in rules["timers"]
    return {
        "input": name,
        "field": None if timer else dice.pick((None, "x", "n")),
        "within_ms": dice.pick((61_000, 1_000, 300_000, HORIZON_MS)),
        "by": not timer and dice.pick((False, True)),
    }


def _limit(dice: Dice, rules: dict[str, Any]) -> tuple:
    window = ("window", dice.pick(list(rules["windows"])))
    kind = dice.pick(("<", "<=", "sum", "or"))
    if kind == "or":
        names = _names(rules["fields"], payload=True, absent=True, windows=list(rules["windows"]))
        return "||", _condition(dice, names), ("<", window, ("lit", 1))
    if kind == "sum":
        return "<=", ("+", window, ("payload", dice.pick(("x", "o")))), ("lit", 5)
    return kind, window, ("lit", dice.pick((1, 2, 3)))


def _law(dice: Dice, fields: dict[str, Any]) -> tuple:
    """An invariant that holds now and then: most random conditions would refuse everything."""
    laws: list[tuple] = [
        ("<", ("state", "n"), ("lit", 5)),
        ("<=", ("name", "version"), ("lit", 6)),
        ("||", ("==", ("name", "status"), ("lit", "a")), ("<=", ("lit", 0), ("state", "n"))),
    ]
    if "o" in fields:
        laws += [
            ("||", ("null?", ("state", "o")), ("<", ("state", "o"), ("lit", 3))),
            ("<=", ("state", "o"), ("lit", 3)),
        ]
    return dice.pick([*laws, _condition(dice, _names(fields, payload=False, absent=False))])


def _creation(fields: dict[str, Any]) -> dict[str, tuple]:
    return {"owner": ("name", "proposer")} if "owner" in fields else {}


def _input(dice: Dice, kind: str, rules: dict[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = {"kind": kind, "payload": PAYLOAD, "transitions": []}
    if kind == "SIGNAL":
        rule["dedup"] = dice.pick(("key", "once", "newest", ["x"], ["n", "x"]))
        rule["late"] = dice.pick(("apply", "refuse"))
        if rule["dedup"] not in ("once", "newest"):
            rule["late"] = dice.pick((rule["late"], "compensate"))
        rule["elsewhere"] = dice.pick(("refuse", "ignore"))
    else:
        rule["dedup"] = dice.pick(("key", "key", "once", ["x"]))
        rule["fence"] = dice.pick(("exact", "exact", "none", ["status"], ["n"], ["n", "status"]))
        rule["valid_for_ms"] = dice.pick((None, 30_000, 300_000))
        rule["max_state_age_ms"] = dice.pick((None, None, 30_000))
        limits = [_limit(dice, rules) for _ in range(dice.pick((0, 1, 0, 2)) if rules["windows"] else 0)]
        rule["limits"] = list(dict.fromkeys(limits))
    rule["transitions"] = _transitions(dice, rules)
    if rule.get("late") == "compensate":
        rule["transitions"] += [{**transition, "late": True} for transition in _transitions(dice, rules)]
    return rule


def _transitions(dice: Dice, rules: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    taken: set[str] = set()
    for _ in range(dice.pick((1, 1, 2, 3))):
        transition = _transition(dice, rules)
        leaves = _leaves(transition, rules)
        if taken.issuperset(leaves):  # it would never be tried
            continue
        if transition["guard"] is None:
            taken.update(leaves)
        made.append(transition)
    return made


def _timer(dice: Dice, rules: dict[str, Any]) -> dict[str, Any]:
    until = "until" in rules["fields"] and dice.pick((False, True))
    timer: dict[str, Any] = {"after_ms": None if until else dice.pick((1_000, 5_000, 30_000, 400_000))}
    transition = _transition(dice, rules, payload=False)
    return {**timer, "transitions": [transition]}


def _leaves(transition: dict[str, Any], rules: dict[str, Any]) -> list[str]:
    lively = [status for status in rules["statuses"] if status not in rules["final"]]
    return lively if transition["from"] == ["any"] else transition["from"]


def _transition(dice: Dice, rules: dict[str, Any], *, payload: bool = True) -> dict[str, Any]:
    statuses, final, fields = rules["statuses"], rules["final"], rules["fields"]
    created = (["absent"], ["absent", "a"]) if payload else ()
    sources = dice.pick((["any"], ["a"], statuses, *created, [statuses[-1]]))
    target = dice.pick((None, "a", statuses[-1], "absent", "a", None))
    if set(sources) & set(final) and target not in (None, "absent"):
        target = "absent"
    absent = "absent" in sources
    names = _names(fields, payload=payload, absent=absent, windows=list(rules["windows"]))
    guard = _condition(dice, names) if dice.pick((False, True)) else None
    transition: dict[str, Any] = {"from": list(sources), "to": target, "guard": guard, "copy": [], "set": {}}
    if target == "absent" or (absent and target is None):
        return transition  # an absent entity has no fields
    transition["copy"] = [name for name in dice.some(("n", "o", "note")) if name in fields] if payload else []
    plain = ("n", "k", "until")  # the others are set from the payload
    rest = [name for name in fields if name not in transition["copy"] and (payload or name in plain)]
    for name in dice.some(rest):
        transition["set"][name] = _value(dice, name, names)
    if absent:
        transition["set"] |= _creation(fields)
    return transition


# YAML -----------------------------------------------------------------------------------------------------------------


def text_of(tree: tuple) -> str:
    """Write a tree as an expression of the definition language."""
    kind, *parts = tree
    if kind == "lit":
        return f"'{parts[0]}'" if isinstance(parts[0], str) else json.dumps(parts[0])
    if kind in ("state", "payload", "window"):
        return f"{kind}.{parts[0]}"
    if kind == "name":
        return str(parts[0])
    if kind == "later":
        return f"event_time + duration('{parts[0]}ms')"
    if kind == "older":
        return f"decided_at - event_time > duration('{parts[0]}ms')"
    if kind == "null?":
        return f"{text_of(parts[0])} == null"
    if kind == "!":
        return f"!({text_of(parts[0])})"
    return f"({text_of(parts[0])}) {kind} ({text_of(parts[1])})"


def as_yaml(rules: dict[str, Any]) -> str:
    """Write a definition as its author would."""
    timers = {name: _timer_written(timer) for name, timer in rules.get("timers", {}).items()}
    windows = {name: _window_written(window) for name, window in rules.get("windows", {}).items()}
    document: dict[str, Any] = {
        "entity": "thing",
        "version": 1,
        "horizon": f"{rules['horizon_ms']}ms",
        "statuses": rules["statuses"],
        "final": rules["final"],
        "fields": {name: _field(field) for name, field in rules["fields"].items()},
        "signals": {name: _written(rule) for name, rule in rules["inputs"].items() if rule["kind"] == "SIGNAL"},
        "proposals": {name: _written(rule) for name, rule in rules["inputs"].items() if rule["kind"] == "PROPOSAL"},
        **({"timers": timers} if timers else {}),
        **({"windows": windows} if windows else {}),
        "invariants": {name: text_of(tree) for name, tree in rules["invariants"].items()},
    }
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False)


def _field(field: dict[str, Any]) -> Any:
    if "default" in field:
        return {"type": field["type"], "default": field["default"]}
    return f"{field['type']} | null" if field.get("optional") else field["type"]


def _written(rule: dict[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {"payload": {name: _field(field) for name, field in rule["payload"].items()}}
    written |= {key: rule[key] for key in ("dedup", "late", "elsewhere", "fence") if key in rule}
    for key in ("valid_for", "max_state_age"):
        if rule.get(f"{key}_ms"):
            written[key] = f"{rule[f'{key}_ms']}ms"
    if rule.get("limits"):
        written["limits"] = [text_of(tree) for tree in rule["limits"]]
    if written["dedup"] == "key":
        del written["dedup"]
    return {**written, "transitions": [_transition_written(transition) for transition in rule["transitions"]]}


def _timer_written(timer: dict[str, Any]) -> dict[str, Any]:
    time = {"after": f"{timer['after_ms']}ms"} if timer["after_ms"] else {"at": "state.until"}
    return {**time, "transitions": [_transition_written(transition) for transition in timer["transitions"]]}


def _window_written(window: dict[str, Any]) -> dict[str, Any]:
    counted = {"sum": f"{window['input']}.{window['field']}"} if window["field"] else {"count": window["input"]}
    return {**counted, "within": f"{window['within_ms']}ms", **({"by": "proposer"} if window["by"] else {})}


def _transition_written(transition: dict[str, Any]) -> dict[str, Any]:
    return {
        "from": transition["from"],
        **({"to": transition["to"]} if transition["to"] else {}),
        **({"guard": text_of(transition["guard"])} if transition["guard"] else {}),
        **({"late": True} if transition.get("late") else {}),
        **({"copy": transition["copy"]} if transition["copy"] else {}),
        **({"set": {name: text_of(tree) for name, tree in transition["set"].items()}} if transition["set"] else {}),
    }
