"""Reads a definition as docs/definition.md and docs/records.md describe it: its rules, and the schemas of its records.

Written without a look at the gate's code. Where the docs were silent, what the gate's output shows was taken over:
`observed` marks these places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from types import CodeType
from typing import Any, Final, NamedTuple

import yaml
from fastavro import parse_schema
from fastavro.schema import fingerprint, to_parsing_canonical_form

__all__ = ["BEYOND", "Rule", "Rules", "Timer", "Transition", "Window", "marker", "rules_of"]

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AVRO: Final = {"timestamp": "long", "decimal": "bytes"}
_WHOLE: Final = ("int", "long")
_FOR_PEOPLE: Final = {
    "rationale": "string",
    "model": ["null", "string"],
    "metadata": {"type": "map", "values": "string"},
}
_NAMES: Final = {"status", "version", "entity_id", "event_time", "decided_at", "proposer"}
_WORDS: Final = {
    "&&": " and ",
    "||": " or ",
    "!": " not ",
    "in": " in ",
    "true": "True",
    "false": "False",
    "null": "None",
}
_TOKEN: Final = re.compile(
    r"""\s*('[^'\\\n]*'|"[^"\\\n]*"|\d+\.\d+|\d+|(?:state|payload|window)\.\w+|\w+|&&|\|\||[=!<>]=|[-+*<>()!,\[\]])\s*"""
)


class _Loader(yaml.SafeLoader):
    """Only `true` and `false` are booleans; `on`, `off`, `12:30` and `0x1F` are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012, as the base class has it


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


BEYOND: Final = object()  # stands for an expression that is not judged


class Transition(NamedTuple):
    late: bool  # taken by late facts only
    to: str | None
    guard: CodeType | object | None
    copied: tuple[str, ...]
    set_to: tuple[tuple[str, Any], ...]  # a field and code, `BEYOND` or a literal


class Limit(NamedTuple):
    holds: CodeType | object
    reads: tuple[str, ...]  # the windows


class Rule(NamedTuple):
    payload: str  # the full name of the payload's record
    table: dict[str, list[Transition]]
    dedup: str | list[str]
    late: bool  # an older fact after a newer one is refused, or takes a late transition
    ignores: bool  # a fact that no transition takes from its entity's status is no alarm
    fence: str | list[str]
    valid_for: int | None
    max_age: int | None  # of the state that it is based on
    limits: tuple[Limit, ...]


class Timer(NamedTuple):
    after: int | None
    at: str | None  # the field that holds the time
    table: dict[str, list[Transition]]


class Window(NamedTuple):
    name: str
    what: str  # it counts; windows that count the same have it in common
    input: str
    field: str | None  # None: it counts inputs
    within: int
    by_proposer: bool
    starts_empty: bool


class Rules(NamedTuple):
    """A definition, ready to judge by, with the schemas that follow from it."""

    horizon: int
    defaults: dict[str, Any]
    bounds: dict[str, int]  # of each field that is a whole number
    rules: dict[tuple[str, str], Rule]
    timers: dict[str, Timer]
    windows: dict[str, Window]
    invariants: list[CodeType | object]
    schemas: dict[str, tuple[bytes, Any]]  # SIGNAL, PROPOSAL, CHANGE: how its records begin, and the schema


def _code(text: str) -> CodeType | object:
    """Translate an expression into Python's code."""
    words, position = [], 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            return BEYOND
        word, position = found.group(1), found.end()
        if word in _WORDS:
            word = _WORDS[word]
        elif word.startswith(("state.", "payload.", "window.")):
            word = "{}[{!r}]".format(*word.split("."))
        elif word[0].isalpha() and word not in _NAMES:
            return BEYOND
        words.append(word)
    try:
        return compile("".join(words).strip(), "<expression>", "eval")
    except SyntaxError:
        return BEYOND


def marker(schema: Any) -> bytes:
    """Return how each record of a schema begins: Avro's single-object encoding."""
    return b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _declared(text: str | dict[str, Any]) -> tuple[Any, bool, Any]:
    """Return a field's Avro type, whether it may be null, and its default (None: none)."""
    field = {"type": text} if isinstance(text, str) else text
    kind, _, null = (part.strip() for part in field["type"].partition("|"))
    avro: Any = _AVRO.get(kind, kind)
    if kind == "array":
        avro = {"type": "array", "items": _AVRO.get(field["items"], field["items"])}
    elif kind == "map":
        avro = {"type": "map", "values": _AVRO.get(field["values"], field["values"])}
    default = field.get("default")
    if kind == "decimal" and default is not None:
        unscaled = int(Decimal(str(default)).scaleb(int(field.get("scale", 0))))
        default = unscaled.to_bytes((unscaled + (unscaled < 0)).bit_length() // 8 + 1, "big", signed=True)
    return avro, null == "null", default


def _record_name(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found.group(1).upper(), name[0].upper() + name[1:])


def _record(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def _payload(full_name: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    fields = {}
    for name, text in declared.items():
        avro, optional, default = _declared(text)
        fields[name] = avro if not optional else ["null", avro] if default is None else [avro, "null"]
    return _record(full_name, fields)


# Columns as in docs/records.md. ? before a type: it may be null.
_SIGNAL: Final = (
    "signal_id string, entity_id string, name string, source string, dedup_key ?string, caused_by ?string, "
    "event_time long, issued_at long"
)
_PROPOSAL: Final = (
    "proposal_id string, entity_id string, name string, proposer string, dedup_key ?string, caused_by ?string, "
    "priority ?string, issued_at long, base_version long, base_incarnation ?long, valid_until ?long"
)
_CHANGE: Final = (
    "topic string, task_epoch long, sequence long, decided_at long, definition_digest bytes, offset long, "
    "log_time long, event_time long, kind string, name string, input_id string, dedup_key string, "
    "payload_digest bytes, proposer string, entity_id string, incarnation long, version long, status string, "
    "deleted_at ?long"
)


def _columns(text: str, prefix: str = "") -> dict[str, Any]:
    pairs = (column.split() for column in text.split(",") if column)
    return {prefix + name: ["null", kind[1:]] if kind[0] == "?" else kind for name, kind in pairs}


def _duration(text: str | None) -> int | None:
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text or "")
    return int(found.group(1)) * _UNITS[found.group(2)] if found else None


def _transitions(rule: dict[str, Any], document: dict[str, Any]) -> dict[str, list[Transition]]:
    table: dict[str, list[Transition]] = {}
    for each in rule.get("transitions") or [rule]:
        copied, guard = each.get("copy") or [], each.get("guard")
        made = Transition(
            late=each.get("late") is True,
            to=each.get("to"),
            guard=None if guard is None else _code(str(guard).lower() if isinstance(guard, bool) else guard),
            copied=tuple([copied] if isinstance(copied, str) else copied),
            set_to=tuple((n, _code(v) if isinstance(v, str) else v) for n, v in (each.get("set") or {}).items()),
        )
        starts = each["from"]
        if starts == "any":
            starts = [status for status in document["statuses"] if status not in (document.get("final") or [])]
        for status in [starts] if isinstance(starts, str) else starts:
            table.setdefault(status, []).append(made)
    return table


def _limits(written: str | list[str]) -> tuple[Limit, ...]:
    texts = [written] if isinstance(written, str) else written
    return tuple(Limit(_code(text), tuple(re.findall(r"\bwindow\.(\w+)", text))) for text in texts)


def _window(name: str, written: Mapping[str, str]) -> Window:
    counted, _, field = (written.get("sum") or written["count"]).partition(".")
    what = f"sum {written['sum']}" if field else f"count {counted}"
    by_proposer, within = "by" in written, _duration(written["within"]) or 0
    what += " by proposer" if by_proposer else ""
    return Window(name, what, counted, field or None, within, by_proposer, "start" in written)


@lru_cache(maxsize=64)
def rules_of(text: str) -> Rules:
    """Read a definition that the gate accepts; mistakes in it are not looked for."""
    document = yaml.load(text, Loader=_Loader)
    space, fields, rules = f"placet.{document['entity']}", document.get("fields") or {}, {}
    forms: dict[str, Any] = {}
    for kind, columns, more in (("SIGNAL", _SIGNAL, {}), ("PROPOSAL", _PROPOSAL, _FOR_PEOPLE)):
        payloads: list[Any] = []
        for name, rule in (document.get(f"{kind.lower()}s") or {}).items():
            full_name = f"{space}.{kind.lower()}.{_record_name(name)}"
            payloads.append(_payload(full_name, rule.get("payload") or {}))
            rules[kind, name] = Rule(
                full_name,
                _transitions(rule, document),
                dedup=rule.get("dedup", "key"),
                late=rule.get("late") in ("refuse", "compensate") or rule.get("dedup") == "newest",
                ignores=rule.get("elsewhere") == "ignore",
                fence=rule.get("fence", "exact"),
                valid_for=_duration(rule.get("valid_for")),
                max_age=_duration(rule.get("max_state_age")),
                limits=_limits(rule.get("limits") or []),
            )
        # observed: where the definition has no name of the kind, the payload is null
        asked = any(rule.max_age is not None for (of, _), rule in rules.items() if of == kind)
        fixed = (
            _columns(columns) | _columns("read_at ?long" if asked else "") | {"payload": payloads or ["null"]} | more
        )
        forms[kind] = _record(f"{space}.{kind.capitalize()}", fixed)
    declared = {name: _declared(field) for name, field in fields.items()}
    states = {name: ["null", avro] for name, (avro, _, _) in declared.items()}
    forms["CHANGE"] = _record(f"{space}.Change", _columns(_CHANGE, "placet_") | states)
    timers = {
        name: Timer(
            after=_duration(rule.get("after")),
            at=rule["at"].removeprefix("state.") if "at" in rule else None,
            table=_transitions(rule, document),
        )
        for name, rule in (document.get("timers") or {}).items()
    }
    return Rules(
        horizon=_duration(document.get("horizon", "24h")) or 0,
        defaults={name: default for name, (_, _, default) in declared.items()},
        bounds={name: 1 << (31 if avro == "int" else 63) for name, (avro, _, _) in declared.items() if avro in _WHOLE},
        rules=rules,
        timers=timers,
        windows={name: _window(name, written) for name, written in (document.get("windows") or {}).items()},
        invariants=[_code(each) for each in (document.get("invariants") or {}).values()],
        schemas={name: (marker(form), parse_schema(form)) for name, form in forms.items()},
    )
