"""`placet definitions`: what an author sees, and what scripts rely on."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from placet.cli.definitions import app
from placet.cli.tables import print_rows
from placet.definitions import load_definition
from placet.schemas.definition.diff import differences, is_compatible
from placet.schemas.definition.jsonschema import json_schema
from placet.schemas.definition.model import parse_definition
from placet.schemas.definition.yaml import read_yaml
from placet.schemas.errors import DefinitionError

EXAMPLES = Path(__file__).parents[2] / "placet" / "schemas" / "examples"
NAMES = ["flight", "refund", "wearable"]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.yaml"
    path.write_text("entity: lamp\nversion: 1\nstatuses: [lit]\nsignals:\n  on:\n    form: absent\n    guard: x > 1\n")
    return path


# --- validate --------------------------------------------------------------------------------------------------------


def test_validate_says_ok_with_version_and_digest() -> None:
    found = call("validate", *(EXAMPLES / f"{name}.yaml" for name in NAMES))

    assert found.exit_code == 0
    assert found.stderr == ""
    for name, line in zip(NAMES, found.stdout.splitlines(), strict=True):
        digest = load_definition(EXAMPLES / f"{name}.yaml").digest.hex()
        assert line.endswith(f"{name}.yaml: ok: {name} version 1, digest {digest}")


def test_validate_lists_all_errors_and_exits_with_1(broken: Path) -> None:
    found = call("validate", EXAMPLES / "refund.yaml", broken)

    assert found.exit_code == 1
    assert "refund.yaml: ok" in found.stdout
    assert found.stderr == (
        f"error: {broken}:5: signals.on.from: is missing\n"
        "  fix: Add `from: …`.\n"
        f"error: {broken}:6: signals.on.form: the key 'form' is not known\n"
        "  fix: Did you mean `from`?\n"
    )


def test_validate_finds_what_only_compiling_shows(broken: Path) -> None:
    broken.write_text(broken.read_text().replace("form: absent", "from: absent\n    to: lit"))
    found = call("validate", broken)

    assert found.exit_code == 1
    assert f"{broken}:8: signals.on.guard: the name 'x' is not known" in found.stderr


def test_validate_refuses_seconds_where_milliseconds_are_meant(tmp_path: Path) -> None:
    file = tmp_path / "lamp.yaml"
    file.write_text("""
entity: lamp
version: 1
statuses: [lit]
final: [lit]
fields: {at_ms: {type: long, default: 0}}
signals:
  made:
    from: absent
    to: lit
    guard: int(decided_at) - state.at_ms < duration('5m').getMilliseconds()
""")
    found = call("validate", file)
    assert found.exit_code == 1
    assert f"{file}:11: signals.made.guard: int(…) of a time gives seconds" in found.stderr
    assert "fix: Compare times with times, such as `decided_at - event_time > duration('5m')`" in found.stderr
    assert call("show", file).exit_code == 0, "what is published goes on to run, and may be looked at"


def test_validate_prints_warnings_and_stays_0(broken: Path) -> None:
    broken.write_text("entity: lamp\nversion: 1\nstatuses: [lit, out]\nsignals:\n  on: {from: absent, to: lit}\n")
    found = call("validate", broken)

    assert found.exit_code == 0
    assert f"warning: {broken}:3: statuses.1: nothing reaches out\n  fix: Add a transition" in found.stderr
    assert "ok: lamp version 1" in found.stdout


UNCOVERED = """
entity: watch
version: 1
statuses: [calm, alert]
signals:
  paired: {from: absent, to: calm}
  heart_rate:
    dedup: newest
    from: calm
  raised: {from: calm, to: alert}
  lowered: {from: alert, to: calm}
proposals:
  look_again: {from: alert}
"""


def test_strict_takes_warnings_for_errors(tmp_path: Path) -> None:
    file = tmp_path / "watch.yaml"
    file.write_text(UNCOVERED)
    fine = EXAMPLES / "flight.yaml"
    found = call("validate", "--strict", fine, file)

    assert (found.exit_code, call("validate", file).exit_code) == (1, 0)
    assert call("validate", "--strict", *(EXAMPLES / f"{name}.yaml" for name in NAMES)).exit_code == 0
    assert [line.partition(": ok: ")[0] for line in found.stdout.splitlines()] == [str(fine)]
    assert found.stderr == (
        f"warning: {file}:7: signals.heart_rate: may come in alert, and has no transition there: it is refused each "
        "time, with an alarm\n"
        "  fix: Add a transition, or `elsewhere: ignore`, which refuses it without an alarm.\n"
        f"warning: {file}:13: proposals.look_again: look_again can never change anything: it stays where it is, and "
        "sets no field\n"
        "  fix: Add `to`, `copy` or `set`, or remove it.\n"
    )


def test_warnings_as_json(tmp_path: Path) -> None:
    file = tmp_path / "watch.yaml"
    file.write_text(UNCOVERED)
    [plain] = json.loads(call("validate", file, "--output", "json").stdout)
    [strict] = json.loads(call("validate", file, "--output", "json", "--strict").stdout)

    assert (plain.pop("ok"), strict.pop("ok")) == (True, False)
    assert plain == strict
    assert plain["digest"] == load_definition(file).digest.hex()
    assert [(one["line"], one["path"], sorted(one)) for one in plain["warnings"]] == [
        (7, "signals.heart_rate", ["fix", "line", "message", "path"]),
        (13, "proposals.look_again", ["fix", "line", "message", "path"]),
    ]


def test_validate_as_json(broken: Path) -> None:
    found = call("validate", "--output", "json", EXAMPLES / "flight.yaml", broken)
    good, bad = json.loads(found.stdout)

    assert found.exit_code == 1
    assert (good["ok"], good["errors"], good["warnings"]) == (True, [], [])
    assert (bad["ok"], bad["digest"]) == (False, None)
    assert bad["errors"][1] == {
        "line": 6,
        "path": "signals.on.form",
        "message": "the key 'form' is not known",
        "fix": "Did you mean `from`?",
    }


def test_a_missing_file_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    for command in ("validate", "show", "diagram"):
        found = call(command, tmp_path / "none.yaml")
        assert found.exit_code == 1
        assert "cannot be read" in found.stderr


# --- show and diagram ------------------------------------------------------------------------------------------------


def test_show_prints_the_table_that_runs() -> None:
    lines = call("show", EXAMPLES / "flight.yaml").stdout.splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]

    assert lines[0].startswith("flight, version 1, horizon 1d, digest ")
    assert ["expected_delay", "int", "0", "minutes; the newest estimate of the operations desk"] in rows
    assert ["signal", "delay_estimated", "scheduled", "(stays)", "expected_delay = payload.minutes"] in rows
    assert ["signal", "flight_cancelled", "scheduled, departed", "cancelled"] in rows
    rebook = "rebooked = state.rebooked + payload.passengers"
    assert ["proposal", "rebook", "cancelled", "(stays)", "payload.passengers > 0", rebook] in rows
    assert "invariant hold_is_short: state.hold_minutes >= 0 && state.hold_minutes <= 30" in lines


@pytest.mark.parametrize("width", [40, 80, 100, 120, 160, 200])
@pytest.mark.parametrize("example", NAMES)
def test_show_breaks_no_word(example: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=width, file=io.StringIO(), markup=False, highlight=False)
    monkeypatch.setattr("placet.cli.definitions.console_for_people", lambda: console)
    call("show", EXAMPLES / f"{example}.yaml")
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    definition = load_definition(EXAMPLES / f"{example}.yaml")
    written = " ".join([
        *definition.fields,
        *(field.doc for field in definition.fields.values()),
        *(name for _, name, _ in definition.rules()),
        *(transition.guard or "" for _, _, rule in definition.rules() for transition in rule.transitions),
    ])  # fmt: skip
    assert set(written.split()) <= set(shown.replace(": ", " ").split())
    tables = shown.partition(" is made stale by: ")[0].splitlines()[2:-1]
    assert width == 40 or max(map(len, tables)) <= width


def test_a_table_shares_its_room() -> None:
    def printed(width: int) -> list[str]:
        console = Console(width=width, file=io.StringIO())
        rows = [("a", "one two three four five six", "short")]
        print_rows(console, ("name", "text", "x"), rows, lambda row: f"{row[0]}!", 1)
        assert isinstance(console.file, io.StringIO)
        return [line.strip() for line in console.file.getvalue().splitlines() if line.strip()]

    assert printed(60)[-1].split() == ["a", "one", "two", "three", "four", "five", "six", "short"]
    assert [line.split() for line in printed(40)[2:]] == [
        ["a", "one", "two", "three", "four", "five", "short"],
        ["six"],
    ]
    assert printed(20) == ["a!", "text  one two", "three four", "five six", "x  short"]


def test_show_says_what_makes_each_proposal_stale() -> None:
    lines = call("show", EXAMPLES / "flight.yaml").stdout.splitlines()

    assert (
        "hold_connection is made stale by: "
        "delay_estimated, flight_departed, flight_cancelled, hold_connection, rebook, notify_late"
    ) in lines
    assert "rebook is made stale by: delay_estimated, flight_departed, flight_arrived, flight_cancelled" in lines
    assert not [line for line in lines if "is ignored in" in line]


LATE = """entity: meter
version: 1
statuses: [running, billed]
fields: {kwh: {type: long, default: 0}, missed: {type: int, default: 0}}
signals:
  started: {from: absent, to: running}
  billed: {from: running, to: billed}
  ended: {from: any, to: absent}
  counted:
    payload: {kwh: long}
    late: compensate
    transitions:
      - {from: running, copy: kwh}
      - {from: [running, billed], late: true, set: {missed: state.missed + 1}}
proposals:
  bill: {from: running, fence: [missed]}
"""


def test_what_late_facts_do_is_shown_drawn_and_compared(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(
        LATE.replace("late: compensate", "late: refuse").replace(
            LATE[LATE.index("      - {from: [run") : LATE.index("proposals:")], ""
        )
    )
    new = tmp_path / "new.yaml"
    new.write_text(LATE.replace("version: 1", "version: 2"))

    shown = [" ".join(line.replace("│", " ").split()) for line in call("show", new).stdout.splitlines()]
    assert "signal counted running (stays) kwh = payload.kwh" in shown
    assert "signal counted (late) running, billed (stays) missed = state.missed + 1" in shown
    assert "bill is made stale by: ended, counted" in shown
    drawn = call("diagram", new).stdout.splitlines()
    assert "    running --> running: counted" in drawn
    assert "    running --> running: counted (late)" in drawn
    assert "    billed --> billed: counted (late)" in drawn
    found = json.loads(call("diff", tmp_path / "old.yaml", new, "--output", "json").stdout)
    assert found["compatible"] is True
    assert [(one["path"], one["change"]) for one in found["differences"][1:]] == [
        ("signals.counted.late", "refuse -> compensate"),
        (
            "signals.counted.transitions.1",
            "added: {from: [running, billed], set: {missed: state.missed + 1}, late: true}",
        ),
    ]


PET = """entity: pet
version: 1
statuses: [ok, watching, alerted]
fields: {valid_to: timestamp | null, alerts: {type: int, default: 0}}
signals:
  seen: {from: absent, to: ok}
  odd: {payload: {valid_to: timestamp}, from: ok, to: watching, copy: valid_to}
proposals:
  answer: {from: watching, to: ok}
timers:
  nobody_answered: {from: watching, after: 30s, to: alerted, set: {alerts: state.alerts + 1}}
  decays: {from: alerted, at: state.valid_to, to: ok, set: {valid_to: null}}
  gone: {from: [ok, watching], after: 90d, to: absent}
"""


def test_timers_are_shown_by_status_with_when_they_are_due(tmp_path: Path) -> None:
    file = tmp_path / "pet.yaml"
    file.write_text(PET)
    found = call("show", file)
    rows = [re.split(r"\s{2,}", line.strip()) for line in found.stdout.splitlines()]

    assert found.exit_code == 0, found.stderr
    assert ["timer", "nobody_answered", "watching", "alerted", "alerts = state.alerts + 1"] in rows
    first = rows.index(["status", "timer", "due"]) + 2
    assert rows[first : first + 4] == [
        ["ok", "gone", "after 90d"],
        ["watching", "nobody_answered", "after 30s"],
        ["watching", "gone", "after 90d"],
        ["alerted", "decays", "at state.valid_to"],
    ]
    assert "answer is made stale by: answer, nobody_answered, gone" in found.stdout
    assert "nobody_answered is refused in" not in found.stdout
    assert "    watching --> alerted: nobody_answered after 30s\n" in call("diagram", file).stdout
    form = json.loads(call("show", file, "--output", "json").stdout)
    assert form["timers"]["decays"]["at"] == "state.valid_to"


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("after", "2h", True),
        ("after", "soon", False),
        ("after", None, False),
        ("at", "state.valid_to", False),  # beside `after`
        ("to", "ok", True),
        ("copy", "valid_to", False),
        ("late", True, False),
        ("payload", {}, False),
    ],
)
def test_the_json_schema_knows_timers(key: str, value: object, right: bool) -> None:
    data = read_yaml(PET).data
    assert fits(SCHEMA, data)
    timer = data["timers"]["nobody_answered"]
    timer[key] = value
    assert fits(SCHEMA, data) is right
    if not right:
        with pytest.raises(DefinitionError):
            parse_definition(json.dumps(data))


def test_the_json_schema_wants_one_time_of_a_timer() -> None:
    data = read_yaml(PET).data
    del data["timers"]["nobody_answered"]["after"]
    assert not fits(SCHEMA, data)
    assert {"from", "after", "at", "transitions"} <= SCHEMA["$defs"]["TimerRule"]["properties"].keys()
    assert all(form.get("description") for form in SCHEMA["$defs"]["TimerRule"]["properties"].values())


def test_show_says_what_windows_count_and_what_limits_proposals() -> None:
    lines = call("show", EXAMPLES / "wearable.yaml").stdout.splitlines()
    assert any("calls_1h" in line and "count escalate" in line and "1h" in line for line in lines)
    assert "limit of escalate: window.calls_1h < 5" in lines


def test_show_says_where_a_fact_is_ignored() -> None:
    assert "heart_rate is ignored in: absent" in call("show", EXAMPLES / "wearable.yaml").stdout.splitlines()


def test_show_says_where_the_table_has_holes() -> None:
    lines = call("show", EXAMPLES / "wearable.yaml").stdout.splitlines()

    assert [line for line in lines if " is refused in: " in line] == [
        "device_paired is refused in: normal, elevated, alert, escalated",
        "all_clear is refused in: absent, normal, elevated",
        "device_unpaired is refused in: absent",
        "escalate is refused in: absent, normal, elevated, escalated",
    ]


def test_show_as_json_reads_back_as_a_definition() -> None:
    form = json.loads(call("show", EXAMPLES / "refund.yaml", "--output", "json").stdout)

    assert form.pop("made_stale_by")["pay"] == ["order_corrected", "pay"]
    assert form.pop("digest") == parse_definition(json.dumps(form)).digest.hex()


def test_diagram_prints_mermaid() -> None:
    found = call("diagram", EXAMPLES / "wearable.yaml")

    assert found.exit_code == 0
    assert found.stdout.startswith("stateDiagram-v2\n")
    assert "    [*] --> normal: device_paired\n" in found.stdout


def test_show_of_a_broken_definition_names_the_line(broken: Path) -> None:
    found = call("show", broken)

    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.startswith(f"error: {broken}:5: signals.on.from: is missing\n  fix: ")


# --- example and jsonschema ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_example_prints_as_it_is_and_validates(name: str, tmp_path: Path) -> None:
    found = call("example", name)
    copy = tmp_path / "copy.yaml"
    copy.write_text(found.stdout, encoding="utf-8")

    assert found.stdout == (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
    assert call("validate", copy).exit_code == 0


def test_an_unknown_example_is_wrong_usage() -> None:
    found = call("example", "ship")

    assert found.exit_code == 2
    assert "wearable" in found.stderr


SCHEMA = json_schema()


def fits(schema: dict[str, Any], value: Any) -> bool:
    """A small checker for the keywords that our schema uses."""
    types = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    wanted = schema.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if wanted and not any(number if one in ("integer", "number") else isinstance(value, types[one]) for one in wanted):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "anyOf" in schema and not any(fits(one, value) for one in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(one, value) for one in schema["oneOf"]) != 1:
        return False
    if "not" in schema and fits(schema["not"], value):
        return False
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, list):
        long_enough = len(value) >= schema.get("minItems", 0)
        return long_enough and all(fits(schema.get("items", {}), item) for item in value)
    return not isinstance(value, dict) or _object_fits(schema, value)


def _object_fits(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    if not set(schema.get("required", ())) <= value.keys():
        return False
    if "propertyNames" in schema and not all(fits(schema["propertyNames"], key) for key in value):
        return False
    rest = schema.get("additionalProperties", {})
    for key, item in value.items():
        inner = schema.get("properties", {}).get(key, rest)
        if inner is False or not fits(inner, item):
            return False
    return True


def test_the_json_schema_is_printed() -> None:
    assert json.loads(call("jsonschema").stdout) == json_schema()


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_fit_the_json_schema(name: str) -> None:
    assert fits(SCHEMA, read_yaml((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")).data)


def test_what_placet_writes_into_a_published_document_is_no_key_for_people() -> None:
    data = read_yaml((EXAMPLES / "flight.yaml").read_text(encoding="utf-8")).data
    assert not fits(SCHEMA, data | {"sources": {}})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("entity",), "Flight"),
        (("horizon",), 60),
        (("statuses",), []),
        (("fields", "carrier"), "text"),
        (("fields", "dep_delay", "defualt"), 1),
        (("signals", "flight_departed", "fence"), "none"),
        (("signals", "flight_departed", "gaurd"), "true"),
        (("signals", "flight_departed", "transitions"), [{"from": "any"}]),
        (("proposals", "rebook", "from"), "any"),
        (("proposals", "rebook", "late"), "apply"),
        (("proposals", "rebook", "dedup"), "newest"),
        (("proposals", "rebook", "valid_for"), "1 minute"),
    ],
)
def test_the_json_schema_refuses_what_placet_refuses(path: tuple[str, ...], value: object) -> None:
    data = read_yaml((EXAMPLES / "flight.yaml").read_text(encoding="utf-8")).data
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value

    assert not fits(SCHEMA, data)
    with pytest.raises(DefinitionError):
        parse_definition(json.dumps(data))


# --- diff ------------------------------------------------------------------------------------------------------------

OLD = """\
entity: lamp
version: 1
horizon: 24h
statuses: [dark, lit]
fields:
  level: {type: int, default: 0}
  color: {type: string, symbols: [red, blue], default: red}
  note: string | null
signals:
  made: {from: absent, to: dark}
  turned:
    payload: {to: int, why: string | null}
    from: any
    to: lit
    set: {level: payload.to}
proposals:
  dim:
    payload: {by: int}
    dedup: once
    fence: exact
    valid_for: 60s
    from: lit
    set: {level: state.level - payload.by}
invariants:
  small: state.level < 1000
"""
NEW = OLD.replace("version: 1", "version: 2")

COMPATIBLE = [
    ("  note: string | null", "  note: string | null\n  more: int | null", "fields.more"),
    ("  note: string | null", "  note: string | null\n  more: {type: int, default: 1}", "fields.more"),
    ("[dark, lit]", "[dark, lit, blinking]", "statuses.blinking"),
    ("[red, blue], default: red", "[red, blue, green], default: red", "fields.color"),
    ("[red, blue], default: red", "[red, blue], default: blue", "fields.color"),
    ("{type: int, default: 0}", "{type: int | null, default: 0}", "fields.level"),
    ("proposals:", "  seen: {from: any}\nproposals:", "signals.seen"),
    ("why: string | null}", "why: string | null, how: string | null}", "signals.turned.payload.how"),
    ("why: string | null}", "why: string | null, how: {type: string, default: x}}", "signals.turned.payload.how"),
    ("from: lit", "from: any", "proposals.dim.transitions.0.from"),
    ("fence: exact", "fence: [level]", "proposals.dim.fence"),
    ("valid_for: 60s", "valid_for: 30s", "proposals.dim.valid_for"),
    ("valid_for: 60s", "valid_for: 60s\n    max_state_age: 30s", "proposals.dim.max_state_age"),
    ("    to: lit\n", "    to: lit\n    elsewhere: ignore\n", "signals.turned.elsewhere"),
    ("state.level < 1000", "state.level < 100", "invariants.small"),
    ("invariants:\n  small: state.level < 1000\n", "", "invariants.small"),
    ("horizon: 24h", "horizon: 12h", "horizon"),
    ("[dark, lit]", "[dark, lit]\nfinal: [lit]", "final.lit"),
]
INCOMPATIBLE = [
    ("version: 2", "version: 1\nfinal: [lit]", "version"),
    ("entity: lamp", "entity: light", "entity"),
    ("horizon: 24h", "horizon: 48h", "horizon"),
    ("[dark, lit]", "[dark, on_now]", "statuses.lit"),
    ("  note: string | null\n", "", "fields.note"),
    ("{type: int, default: 0}", "{type: long, default: 0}", "fields.level"),
    ("[red, blue], default: red", "[red], default: red", "fields.color"),
    ("[red, blue], default: red", "[blue, green], default: blue", "fields.color"),
    ("note: string | null", "note: {type: string, default: x}", "fields.note"),
    ("note: string | null", "note: int | null", "fields.note"),
    ("  made: {from: absent, to: dark}\n", "", "signals.made"),
    ("why: string | null}", "why: string | null, how: string}", "signals.turned.payload.how"),
    ("to: int, why: string | null", "to: int", "signals.turned.payload.why"),
    ("{by: int}", "{by: long}", "proposals.dim.payload.by"),
    ("dedup: once", "dedup: [by]", "proposals.dim.dedup"),
]


CHANGED = [
    ("state.level < 1000", "state.level < 100", "state.level < 1000 -> state.level < 100"),
    ("from: lit", "from: [lit, dark]", "[lit] -> [lit, dark]"),
    ("    to: lit\n", "    to: lit\n    elsewhere: ignore\n", "refuse -> ignore"),
    ("invariants:\n  small: state.level < 1000\n", "", "removed: state.level < 1000"),
]


@pytest.mark.parametrize(("old", "new", "change"), CHANGED)
def test_both_sides_of_a_change_are_shown(old: str, new: str, change: str) -> None:
    found = differences(parse_definition(OLD), parse_definition(NEW.replace(old, new)))
    assert found[-1].change == change


def test_transitions_are_compared_by_their_place() -> None:
    first = "    transitions:\n      - {from: lit, guard: payload.by < 9, set: {level: 1}}\n"
    second = "      - {from: dark, to: lit}\n"
    without = NEW.replace("    from: lit\n    set: {level: state.level - payload.by}\n", "")
    was, comes = (without.replace("valid_for: 60s\n", f"valid_for: 60s\n{text}") for text in (first, first + second))
    found = differences(
        parse_definition(was), parse_definition(comes.replace("version: 2", "version: 3").replace("< 9", "< 9.5"))
    )
    assert [(one.path, one.change) for one in found[1:]] == [
        ("proposals.dim.transitions.0.guard", "payload.by < 9 -> payload.by < 9.5"),
        ("proposals.dim.transitions.1", "added: {from: [dark], to: lit}"),
    ]


@pytest.mark.parametrize(("old", "new", "path"), COMPATIBLE)
def test_compatible_changes(old: str, new: str, path: str) -> None:
    assert NEW.count(old) == 1
    found = differences(parse_definition(OLD), parse_definition(NEW.replace(old, new)))

    assert is_compatible(found)
    assert [difference.path for difference in found] == ["version", path]
    assert all(difference.why for difference in found)


@pytest.mark.parametrize(("old", "new", "path"), INCOMPATIBLE)
def test_incompatible_changes(old: str, new: str, path: str) -> None:
    assert NEW.count(old) == 1
    text = NEW.replace(old, new).replace("lit\n", "on_now\n" if "on_now" in new else "lit\n")
    found = differences(parse_definition(OLD), parse_definition(text))

    assert not is_compatible(found)
    assert [difference.path for difference in found if not difference.compatible] == [path]
    assert all(difference.why for difference in found)


def test_a_lower_version_is_incompatible_and_docs_are_no_difference() -> None:
    assert not is_compatible(differences(parse_definition(NEW), parse_definition(OLD)))
    documented = OLD.replace("default: 0}", "default: 0, doc: brightness}")
    assert differences(parse_definition(OLD), parse_definition(documented)) == []


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    texts = {
        "old": OLD,
        "better": NEW.replace("state.level < 1000", "state.level < 100"),
        "worse": NEW.replace("  note: string | null\n", ""),
        "none": "entity: [",
    }
    paths = {name: tmp_path / f"{name}.yaml" for name in texts}
    for name, text in texts.items():
        paths[name].write_text(text)
    return paths


def test_diff_prints_a_table_and_exits_by_the_verdict(files: dict[str, Path]) -> None:
    better, worse = call("diff", files["old"], files["better"]), call("diff", files["old"], files["worse"])

    assert (better.exit_code, better.stdout.splitlines()[-1]) == (0, "compatible")
    assert (worse.exit_code, worse.stdout.splitlines()[-1]) == (1, "incompatible")
    assert re.search(r"INCOMPATIBLE\s+fields.note\s+removed\s+Sinks' columns lose it", worse.stdout)
    assert call("diff", files["old"], files["old"]).stdout == "no difference in the rules\n"


def test_diff_as_json(files: dict[str, Path]) -> None:
    found = call("diff", files["old"], files["worse"], "--output", "json")
    report = json.loads(found.stdout)

    assert found.exit_code == 1
    assert report["compatible"] is False
    assert [(one["path"], one["compatible"]) for one in report["differences"]] == [
        ("version", True),
        ("fields.note", False),
    ]


def test_diff_of_what_is_no_definition_is_wrong_usage(files: dict[str, Path]) -> None:
    assert call("diff", files["old"], files["none"]).exit_code == 2
    assert call("diff", files["none"], files["old"]).exit_code == 2
    assert call("diff", files["old"]).exit_code == 2


@pytest.mark.parametrize("command", ["validate", "show", "diagram", "diff", "example", "jsonschema"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    found = call(command, "--help")

    assert found.exit_code == 0
    assert f"Example:  placet definitions {command}" in " ".join(found.stdout.split()).replace(
        "Example: ", "Example:  "
    )
