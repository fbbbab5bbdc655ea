"""Writes what the pages of docs/ take from the code, tables and answers alike. `python ops/reference.py`.

Some pages are written whole: reasons, settings, metrics. In others tables stand between `<!-- from the code: name -->`
and `<!-- end -->`: definition, records. In the refusals the gate's answer stands behind each example.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ops.examples import answered
from ops.reactions import meanings, reactions_page
from ops.rooms import drawing
from placet.cli.exit_codes import MEANINGS
from placet.processors.address import murmur2, partition_of
from placet.processors.machine import compile_machine
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import DEAD_LETTER, DECISION, contracts
from placet.schemas.decision import REASONS, Reason
from placet.schemas.definition.coverage import KINDS_OF_WARNING
from placet.schemas.definition.jsonschema import json_schema
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import DefinitionError
from placet.schemas.messages import Kind, Message
from placet.streams.librdkafka_options import OWNED_OPTIONS, WITHOUT_A_BROKER
from placet.streams.settings import PREFIX, Settings
from placet.streams.telemetry.metrics import METRICS
from placet.streams.topics.configs import RECORD_BYTES_MAX, needs_of
from placet.streams.topology import EntityTopics
from placet.testing import START_MS

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
DAY_MS: Final = 86_400_000

REASONS_TEXT = """*For whoever got a refusal: what it means, what to do, and whether sending again helps.*

Every decision carries a reason, by name and by number; numbers are pinned and never reused.
`retry` says whether sending again can help: NEVER, RECOMPUTE (read again, think again), LATER (as it is).
A client says LATER to `UNDECODABLE` and `INVALID_PAYLOAD` too where the gate went by other rules than the client:
they were changing, and what one version can't read another one may.
The last column leads to a worked example; *later* marks what no gate of this version says yet."""

SETTINGS_TEXT = """*For operators: every variable of a gate, and what of librdkafka is not yours to set.*

Command line over environment over default. With `_FILE` behind its name a variable names a file
that holds the value (Docker and Kubernetes secrets). `PLACET_DEFINITION` names one definition file.
`KAFKA_BOOTSTRAP_SERVERS` and `SCHEMA_REGISTRY_URL` count where the own variable is not set.
Other variables that begin with `PLACET_` are ignored; one that looks like a misspelt setting is named in a
warning, and `placet doctor` names all of them."""

METRICS_TEXT = """On `PLACET_METRICS_PORT`: `/metrics` (Prometheus), `/healthz` (the loop came around), `/readyz` (every
task of this gate runs, and it can run something of what is in force). No label is an entity id."""


def later() -> set[Reason]:
    """Return the reasons that no rule of the gate gives yet: nothing but their table names them."""
    modules = [*(ROOT / "placet" / "processors").glob("*.py"), *(ROOT / "placet" / "schemas").glob("*.py")]
    code = "".join(path.read_text() for path in modules if path.name != "decision.py")
    return {reason for reason in Reason if f"Reason.{reason.name}" not in code}


def reasons() -> str:
    not_yet = later()
    rows = [
        f"| `{reason.name}` | {reason.value} | {text.retry.name} | {text.meaning} | {text.todo} "
        f"| [{'later' if reason in not_yet else 'example'}](refusals.md#{reason.name.lower()}) |"
        for reason, text in REASONS.items()
    ]
    return "\n".join([
        "# Reasons", "",
        REASONS_TEXT, "",
        "| reason | number | retry | meaning | what to do | |", "| --- | --- | --- | --- | --- | --- |", *rows, "",
    ])  # fmt: skip


def rows_of(model: type[BaseModel], prefix: str) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += rows_of(kind, f"{variable}__")
        else:
            found.append(f"| `{variable}` | {default_of(field)} | {field.description or ''} |")
    return found


def default_of(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return ""
    return f"`{field.default}`" if field.default not in ((), {}, None, "") else ""


def settings() -> str:
    owned = [f"| `{name}` | {todo} |" for name, todo in OWNED_OPTIONS.items()]
    usual = [f"| `{name}` | {value} |" for name, value in WITHOUT_A_BROKER.items()]
    return "\n".join([
        "# Settings", "",
        SETTINGS_TEXT, "",
        "| variable | default | meaning |", "| --- | --- | --- |", *rows_of(Settings, PREFIX), "",
        "## Options of librdkafka that are not for you to set", "",
        "Everything else goes through: `PLACET_KAFKA__OPTIONS`, as JSON or one variable for each option.", "",
        "| option | instead |", "| --- | --- |", *owned, "",
        "## Options of librdkafka that have another default here", "",
        "So that a broker that goes away is missed within seconds. Set them like any other.", "",
        "| option | default here |", "| --- | --- |", *usual, "",
    ])  # fmt: skip


def metrics() -> str:
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.unit} | {metric.help} |"
        for metric in METRICS
    ]
    return "\n".join([
        "# Metrics", "",
        METRICS_TEXT, "",
        "| metric | type | labels | unit | meaning |", "| --- | --- | --- | --- | --- |", *rows, "",
    ])  # fmt: skip


# -- pages in which a table stands among text -------------------------------------------------------------------------

BLOCK: Final = re.compile(r"(<!-- from the code: (?P<name>[a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
MISTAKE: Final = re.compile(r"(```yaml\n(?P<rules>[^`]*?)```\n\n```text\n)error: .*?```", re.DOTALL)


def with_blocks(page: str, tables: Mapping[str, str]) -> str:
    """Return the page with each marked table as the code has it."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{tables[found['name']]}\n\n{found[3]}", page)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(head), ["---" for _ in head], *map(list, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells)


WORDS: Final = {
    **dict.fromkeys(("fields", "payload"), "name: type"),
    **dict.fromkeys(("signals", "proposals"), "name: rule"),
    "timers": "name: timer",
    "windows": "name: window",
    "limits": "expression, or list",
    "count": "name of an input",
    "sum": "`input.field`",
    "at": "`state.<field>`",
    **dict.fromkeys(("items", "values"), "a scalar type"),
    "invariants": "name: expression",
    "transitions": "list of transitions",
    "from": "status, list, or `any`",
    "to": "status",
    "guard": "expression",
    "copy": "field, or list",
    "set": "field: value",
    "type": "a type",
    "default": "a value of the type",
}
"""What stands behind a key, where its JSON Schema says less than an author wants to know."""


def kind_of(key: str, schema: Mapping[str, Any]) -> str:
    """Return in words what may stand behind a key."""
    if key in WORDS:
        return WORDS[key]
    if "anyOf" in schema:
        return " or ".join(kind_of("", part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "60s" in schema.get("examples", ()):
        return "duration"
    return {"array": "list of names", "integer": "whole number", "string": "text", "boolean": "`true`"}[schema["type"]]


def key_row(key: str, schema: Mapping[str, Any], required: Iterable[str]) -> tuple[str, ...]:
    default = schema.get("default")
    given = "required" if key in required else "" if default in (None, [], {}, False) else f"`{default}`"
    return f"`{key}`", kind_of(key, schema), given, schema.get("description", "")


def keys_of(block: Mapping[str, Any], *, without: Iterable[str] = ()) -> str:
    skipped = set(without)
    rows = [
        key_row(key, value, block.get("required", ()))
        for key, value in block["properties"].items()
        if key not in skipped
    ]
    return table(("key", "value", "default", "what"), rows)


def definition(page: str) -> str:
    """The keys of a definition, as the model has them, and what Placet says to each mistake that the page shows."""
    schema = json_schema()
    blocks = schema["$defs"]
    inline = [key for key in blocks["TransitionRule"]["properties"] if key != "late"]  # a rule has a `late` of its own
    tables = {
        "top level": keys_of(schema),
        "field": keys_of(blocks["Field"]["anyOf"][1]),
        "signal": keys_of(blocks["SignalRule"], without=inline),
        "proposal": keys_of(blocks["ProposalRule"], without=inline),
        "timer": keys_of(blocks["TimerRule"], without=inline),
        "window": keys_of(blocks["WindowRule"]),
        "transition": keys_of(blocks["TransitionRule"]),
        "warnings": table(("warning", "fix"), ((k.message.format("…"), k.fix.format("…")) for k in KINDS_OF_WARNING)),
    }
    return MISTAKE.sub(lambda found: f"{found[1]}{mistake(found['rules'])}```", with_blocks(page, tables))


def mistake(rules: str) -> str:
    """Return what `placet definitions validate` says to the lines that a page shows, completed to a definition."""
    try:
        compile_machine(parse_definition(completed(rules)))
    except DefinitionError as error:
        return f"error: {error.path}: {error.message}\n  fix: {error.fix}\n"
    raise AssertionError(f"nothing is wrong with {rules}")


def completed(rules: str) -> str:
    """Add the top-level keys that a page leaves out."""
    usual = {
        "entity": "order", "version": "1", "statuses": "[open, held]",
        "signals": "{opened: {from: absent, to: open}}",
    }  # fmt: skip
    there = {line.split(":")[0] for line in rules.splitlines()}
    return rules + "".join(f"{key}: {value}\n" for key, value in usual.items() if key not in there)


EXAMPLE_RULES: Final = """
entity: order
version: 1
statuses: [open]
fields: {total: long, note: "string | null"}
signals: {opened: {payload: {total: long}, from: absent, to: open, copy: total}}
proposals: {annotate: {payload: {note: string}, from: open, copy: note}}
"""


def columns(schema: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [(f"`{field['name']}`", type_of(field), default(field), field.get("doc", "")) for field in schema["fields"]]


def type_of(field: Mapping[str, Any]) -> str:
    return "a record for each name" if field["name"] == "payload" else f"`{avro_type(field['type'])}`"


def default(field: Mapping[str, Any]) -> str:
    return f"`{json.dumps(field['default'])}`" if "default" in field else ""


def avro_type(kind: Any) -> str:
    """Return an Avro type in one line."""
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return ", ".join(avro_type(branch) for branch in kind)
    if "logicalType" in kind:
        return f"{kind['type']} ({kind['logicalType']})"
    if kind["type"] in ("array", "map"):
        return f"{kind['type']} of {avro_type(kind.get('items', kind.get('values')))}"
    return str(kind.get("name", kind["type"]))


def records(page: str) -> str:
    """The columns of each kind of record, as the schemas have them, and bytes to compare an implementation with."""
    rules = parse_definition(EXAMPLE_RULES)
    made = contracts(rules)
    schemas = {"signal": made.signal, "proposal": made.proposal, "change": made.change, "decision": DECISION,
               "dead letter": DEAD_LETTER}  # fmt: skip
    head = ("column", "Avro type", "default", "what")
    tables = {name: table(head, columns(schema)) for name, schema in schemas.items()}
    return with_blocks(page, {**tables, "bytes": framed(rules), "partitions": placed(), "murmur": hashing()})


def framed(rules: Definition) -> str:
    """Return a signal in both framings, in hexadecimal, cut where a reader has to."""
    opened = Message(Kind.SIGNAL, "opened", "s-1", "o-1", {"total": 500}, START_MS, START_MS)
    value = Codec(rules).encode_message(opened)
    parts = (
        ("single-object", b"\xc3\x01", "the marker"),
        ("", value[2:10], "the fingerprint"),
        ("registry", b"\x00", "the marker"),
        ("", (7).to_bytes(4, "big"), "the schema's id, here 7"),
        ("both, then", value[10:26], "the record"),
        ("", value[26:], ""),
    )
    lines = [f"{where:<15}{part.hex(' '):<50}{what}".rstrip() for where, part, what in parts]
    return "\n".join(("```text", *lines, "```"))


def hashing() -> str:
    """Return the hash of keys as code, without its docstring."""
    lines = inspect.getsource(murmur2).splitlines()
    return "\n".join(["```python", "from struct import unpack_from", "", "_M, _MASK = 0x5BD1E995, 0xFFFFFFFF", "", "",
                      lines[0], *lines[2:], "```"])  # fmt: skip


def placed() -> str:
    """Return where some keys live."""
    keys = ("o-1", "o-2", "rf_1", "flight-2013-01-01-UA1545", "größe", "x" * 100)
    rows = [
        (f"`{key}`" if len(key) < 50 else f"`{key[0]}`, {len(key)} times", f"`{murmur2(key.encode()):08x}`",
         *(str(partition_of(key.encode(), count)) for count in (4, 6, 12)))
        for key in keys
    ]  # fmt: skip
    return table(("key", "murmur2", "of 4 partitions", "of 6", "of 12"), rows)


def operating(page: str) -> str:
    """What each topic must be like, and what a command's exit code says."""
    return with_blocks(page, {"topics": topics(), "exit codes": exit_codes()})


def topics() -> str:
    """Return the settings of each role's topics, for a horizon of a day."""
    roles: dict[tuple[str, ...], list[str]] = {}
    all_roles = (*EntityTopics._fields, "control", "gates", "dead-letters")
    for role in all_roles:
        for need in needs_of(role, DAY_MS, RECORD_BYTES_MAX):
            given = need.wanted or need.value
            made = given if given == need.value else f"{given} (at least {need.value})"
            roles.setdefault((need.config, made, need.why), []).append(role)
    rows = [
        (f"`{config}`", made, "all" if len(names) == len(all_roles) else ", ".join(names), why)
        for (config, made, why), names in roles.items()
    ]
    return table(("setting", "made with, for a horizon of 24h", "topics", "why"), rows)


def exit_codes() -> str:
    return table(("code", "meaning"), ((str(int(code)), meaning) for code, meaning in MEANINGS.items()))


PAGES: Final[dict[str, Callable[[str], str]]] = {
    "reasons": lambda _: reasons(),
    "settings": lambda _: settings(),
    "metrics": lambda _: metrics(),
    "definition": definition,
    "records": records,
    "operating": operating,
    "refusals": answered,
    "reactions": lambda _: reactions_page(),
    "../ARCHITECTURE": lambda page: with_blocks(page, {"rooms": drawing(), "reactions": meanings()}),
}
"""The pages that take something from the code: what they are to be, given what they are."""


if __name__ == "__main__":
    for name, renewed in PAGES.items():
        path = DOCS / f"{name}.md"
        path.write_text(renewed(path.read_text()))
