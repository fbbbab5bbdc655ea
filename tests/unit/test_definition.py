"""A definition is read strictly: every error names file, line, path and fix."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placet.definitions import load_definition, parse_definition, problems_of
from placet.processors.machine import compile_machine, compile_problems
from placet.schemas.definition.coverage import warnings
from placet.schemas.definition.yaml import read_yaml
from placet.schemas.errors import DefinitionError
from placet.schemas.messages import Kind, Priority

EXAMPLES = sorted((Path(__file__).parents[2] / "placet" / "schemas" / "examples").glob("*.yaml"))

SMALL = """\
entity: lamp
version: 1
statuses: [dark, lit]
fields:
  level: {type: int, default: 0}
  note: string | null
signals:
  made:
    from: absent
    to: dark
  turned:
    payload:
      level: int
    from: [dark, lit]
    to: lit
    copy: [level]
proposals:
  dim:
    payload: {by: int}
    from: lit
    guard: payload.by > 0
    set: {level: state.level - payload.by}
invariants:
  not_negative: state.level >= 0
"""


SYNTAX = ("\n", "  ", "- ", ": ", "{", "]", "'", '"', "&a ", "*a", "!x ", "---\n", "# ", "| ", "? ", "null", "absent")


def changed(old: str, new: str) -> str:
    assert SMALL.count(old) == 1, f"{old!r} must stand once in the small definition"
    return SMALL.replace(old, new)


def only_error(text: str) -> DefinitionError:
    """The one thing that is wrong with a text, wherever it is found: while reading or while compiling."""
    found = problems_of(text, "lamp.yaml")
    if not found:
        with pytest.raises(DefinitionError) as caught:
            compile_machine(parse_definition(text, "lamp.yaml"))
        found = [caught.value]
    assert len(found) == 1, [str(error) for error in found]
    return found[0]


def test_the_small_definition_is_fine() -> None:
    definition = parse_definition(SMALL)

    assert problems_of(SMALL) == []
    assert definition.horizon_ms == 24 * 3_600_000
    assert definition.proposals["dim"].fence == "exact"
    assert definition.proposals["dim"].dedup == "key"
    assert definition.proposals["dim"].valid_for_ms is None
    assert definition.proposals["dim"].priority is Priority.NORMAL
    assert definition.signals["turned"].late == "apply"
    assert compile_machine(definition).initial_fields == {"level": 0, "note": None}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_load_compile_and_have_no_warnings(path: Path) -> None:
    definition = load_definition(path)

    assert compile_machine(definition).entity == path.stem
    assert warnings(definition) == []
    assert definition.signals
    assert definition.proposals
    assert definition.invariants


def test_there_are_three_examples() -> None:
    assert [path.stem for path in EXAMPLES] == ["flight", "refund", "wearable"]


# --- every error: file, line, path, message, fix ---------------------------------------------------------------------

ERRORS = [
    # (what stands there, what is written instead, line, path, part of the message, part of the fix)
    ("entity: lamp", "entity: Lamp", 1, "entity", "'Lamp' cannot be the name of an entity", "snake_case"),
    ("version: 1\n", "", 1, "version", "is missing", "Add `version: …`"),
    ("version: 1", "version: 0", 2, "version", "greater than or equal to 1", ""),
    ("version: 1", "version: '1'", 2, "version", "integer", "whole number"),
    ("version: 1", "version: true", 2, "version", "integer", "whole number"),
    ("version: 1", "version: 1\nhorizon: 5 minutes", 3, "horizon", "no duration", "24h"),
    ("version: 1", "version: 1\nhorizon: 60", 3, "horizon", "no duration", "60s"),
    ("version: 1", "version: 1\nstates: [a]", 3, "states", "'states' is not known", "Did you mean `statuses`?"),
    ("version: 1", "version: 1\nauthority: {}", 3, "authority", "belongs to a later version of Placet", "Remove it"),
    ("version: 1", "version: 1\nrate: {}", 3, "rate", "belongs to a later version of Placet", "Remove it"),
    ("version: 1", "version: 1\nlimits: {}", 3, "limits", "limits is a proposal's", "Move it"),
    ("[dark, lit]\nfields", "lit\nfields", 3, "statuses", "no list of statuses", "[a, b]"),
    ("[dark, lit]\nfields", "[dark, lit, lit]\nfields", 3, "statuses", "twice", "Keep one"),
    ("[dark, lit]\nfields", "[dark, lit, absent]\nfields", 3, "statuses.2", "built in", "Remove it"),
    ("[dark, lit]\nfields", "[dark, lit, any]\nfields", 3, "statuses.2", "all statuses", "another name"),
    ("[dark, lit]\nfields", "[dark, lit, On]\nfields", 3, "statuses.2", "'On' cannot be the name", "snake_case"),
    ("[dark, lit]\nfields", "[dark, lit]\nfinal: [lti]\nfields", 4, "final.0", "'lti' is not declared", "`lit`"),
    ("note: string | null", "note: text", 6, "fields.note", "'text' is no type", "string, int, long"),
    ("note: string | null", "note: string | int", 6, "fields.note", "is no type", "`int | null`"),
    ("note: string | null", "note: 7", 6, "fields.note", "a type or a mapping", ""),
    ("note: string | null", "note: {type: array}", 6, "fields.note", "needs items", "items"),
    ("note: string | null", "note: {type: map}", 6, "fields.note", "needs values", "values"),
    ("note: string | null", "note: {type: decimal}", 6, "fields.note", "needs precision", "precision"),
    ("note: string | null", "note: {type: int, symbols: [a]}", 6, "fields.note", "belongs to string", "Leave it out"),
    ("note: string | null", "note: {type: int, scale: 2}", 6, "fields.note", "belongs to decimal", "Leave it out"),
    ("note: string | null", "note: {type: int, defualt: 1}", 6, "fields.note.defualt", "not known", "`default`"),
    ("note: string | null", "note: {type: int, default: '1'}", 6, "fields.note", "'1' is no int", "default: 0"),
    ("note: string | null", "note: {type: int, default: 3e9}", 6, "fields.note", "is no int", "default: 0"),
    ("note: string | null", "note: {type: boolean, default: on}", 6, "fields.note", "'on' is no boolean", "false"),
    ("note: string | null", "note: {type: int, default: null}", 6, "fields.note", "None is no int", "default: 0"),
    ("note: string | null", "status: string | null", 6, "fields.status", "belongs to the gate", "another name"),
    ("note: string | null", "placet_x: int | null", 6, "fields.placet_x", "placet_", "another name"),
    ("note: string | null", "null: int | null", 6, "fields.null", "expression language", "another name"),
    ("note: string | null", "note: string", 8, "signals.made", "creates the entity without note", "`| null`"),
    ("from: absent", "from: dart", 9, "signals.made.from", "'dart' is not declared", "`dark`"),
    ("to: dark\n", "too: dark\n", 10, "signals.made.too", "'too' is not known", "`to`"),
    ("to: dark\n", "to: drak\n", 10, "signals.made.to", "'drak' is not declared", "`dark`"),
    ("to: dark\n", "to: dark\n    fence: none\n", 11, "signals.made.fence", "proposals only", "Remove it"),
    (
        "to: dark\n",
        "to: dark\n    max_state_age: 5s\n",
        11,
        "signals.made.max_state_age",
        "proposals only",
        "Remove it",
    ),
    ("to: dark\n", "to: dark\n    dedup: twice\n", 11, "signals.made.dedup", "'twice' is not known here", "newest"),
    ("to: dark\n", "to: dark\n    late: never\n", 11, "signals.made.late", "'apply', 'refuse' or 'compensate'", ""),
    ("to: dark\n", "to: dark\n    late: compensate\n", 11, "signals.made.late", "no transition is for", "late: true"),
    ("to: dark\n", "to: dark\n    elsewhere: alarm\n", 11, "signals.made.elsewhere", "'refuse' or 'ignore'", ""),
    ("to: dark\n", "to: dark\n    effects: []\n", 11, "signals.made.effects", "later version", "Remove it"),
    ("to: dark\n", "to: dark\n    transitions: []\n", 8, "signals.made", "beside transitions", "Move it"),
    ("from: absent\n    to: dark", "dedup: once", 8, "signals.made", "no transition", "from"),
    ("level: int\n", "level: long\n", 16, "signals.turned.copy", "long in the payload, but int in the state", "`set`"),
    ("level: int\n", "level: int | null\n", 16, "signals.turned.copy", "int | null in the payload", "`set`"),
    ("level: int\n", "lvl: int\n", 16, "signals.turned.copy", "no field 'level'", "`lvl`"),
    ("copy: [level]", "copy: [level]\n    set: {level: 1}", 16, "signals.turned.copy", "in `set` as well", "Keep one"),
    ("copy: [level]", "dedup: [levle]", 16, "signals.turned.dedup.0", "no field 'levle'", "`level`"),
    ("by: int", "by: double", 21, "proposals.dim.guard", "'(double, int)'", "1.0"),
    ("dim:\n", "turned:\n", 18, "proposals.turned", "name of a signal as well", "another name"),
    ("guard: payload.by > 0", "gaurd: payload.by > 0", 21, "proposals.dim.gaurd", "not known", "`guard`"),
    ("guard: payload.by > 0", "guard: payload.bye > 0", 21, "proposals.dim.guard", "'payload.bye'", "`payload.by`"),
    ("guard: payload.by > 0", "guard: payload.by", 21, "proposals.dim.guard", "INT, not a boolean", "Compare"),
    ("guard: payload.by > 0", "guard: true", 21, "proposals.dim.guard", "valid string", "quote it"),
    ("guard: payload.by > 0", "guard: ''", 21, "proposals.dim.guard", "empty", "Leave the key out"),
    ("guard: payload.by > 0", "dedup: newest", 21, "proposals.dim.dedup", "signals only", "once"),
    ("guard: payload.by > 0", "late: refuse", 21, "proposals.dim.late", "signals only", "valid_for"),
    ("guard: payload.by > 0", "elsewhere: ignore", 21, "proposals.dim.elsewhere", "signals only", "Remove it"),
    ("guard: payload.by > 0", "fence: [levle]", 21, "proposals.dim.fence.0", "'levle'", "`level`"),
    ("guard: payload.by > 0", "fence: strict", 21, "proposals.dim.fence", "'strict' is not known", "exact, none"),
    ("guard: payload.by > 0", "valid_for: 25h", 21, "proposals.dim.valid_for", "longer than the horizon", "Shorten"),
    ("guard: payload.by > 0", "max_state_age: 25h", 21, "proposals.dim.max_state_age", "longer than", "Shorten"),
    ("guard: payload.by > 0", "priority: urgent", 21, "proposals.dim.priority", "no priority", "critical"),
    ("guard: payload.by > 0", "approval: ops", 21, "proposals.dim.approval", "later version of Placet", "Remove it"),
    ("guard: payload.by > 0", "recompute: 3", 21, "proposals.dim.recompute", "later version of Placet", "Remove it"),
    ("{level: state.level - payload.by}", "{levl: 1}", 22, "proposals.dim.set.levl", "not declared", "`level`"),
    ("{level: state.level - payload.by}", "{level: [1]}", 22, "proposals.dim.set", "neither a literal", "in quotes"),
    ("{level: state.level - payload.by}", "{level: 1.5}", 22, "proposals.dim.set.level", "1.5 is no int", ""),
    ("{level: state.level - payload.by}", "{level: null}", 22, "proposals.dim.set.level", "None is no int", ""),
    ("{level: state.level - payload.by}", "{level: 'true'}", 22, "proposals.dim.set.level", "BOOL", "int(…)"),
    ("{level: state.level - payload.by}", "{note: bright}", 22, "proposals.dim.set.note", "'bright'", "\"'bright'\""),
    (
        "not_negative: state.level >= 0",
        "x: payload.by > 0",
        24,
        "invariants.x",
        "no payload here",
        "invariants see none",
    ),
    ("not_negative: state.level >= 0", "x: state.level", 24, "invariants.x", "not a boolean", "Compare"),
    ("not_negative: state.level >= 0", "Not: 'true'", 24, "invariants.Not", "cannot be the name", "snake_case"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "message", "fix"), ERRORS, ids=[f"{row[3]}-{row[1][:25]!r}" for row in ERRORS]
)
def test_an_error_names_file_line_path_and_fix(
    old: str, new: str, line: int, path: str, message: str, fix: str
) -> None:
    error = only_error(changed(old, new))

    assert (error.file, error.line, error.path) == ("lamp.yaml", line, path)
    assert message in error.message
    assert fix in error.fix
    assert error.fix
    assert str(error).startswith(f"lamp.yaml:{line}: {path}: ")
    assert str(error).endswith(f"\n  fix: {error.fix}")


def test_all_errors_are_found_in_file_order() -> None:
    text = (
        SMALL.replace("entity: lamp", "entity: Lamp").replace("to: dark", "to: drak").replace("from: lit", "from: lti")
    )

    assert [error.line for error in problems_of(text)] == [1, 10, 20]


def test_a_misspelt_key_is_named_beside_the_one_that_is_missing() -> None:
    found = problems_of(changed("from: absent", "form: absent"))

    assert [(error.line, error.path, error.message) for error in found] == [
        (8, "signals.made.from", "is missing"),
        (9, "signals.made.form", "the key 'form' is not known"),
    ]
    assert found[1].fix == "Did you mean `from`?"


def test_an_error_inside_a_list_of_transitions_names_its_index() -> None:
    text = changed(
        "    from: lit\n    guard: payload.by > 0\n    set: {level: state.level - payload.by}\n",
        "    transitions:\n      - {from: lit, to: dark}\n      - {from: lit, to: drak}\n",
    )
    found = problems_of(text, "lamp.yaml")

    assert [(error.line, error.path) for error in found] == [
        (22, "proposals.dim.transitions.1.to"),
        (22, "proposals.dim.transitions.1"),  # it is never tried, as the first has no guard
    ]
    assert "never tried" in found[1].message


def test_a_definition_without_inputs_is_refused() -> None:
    assert "no signal and no proposal" in only_error("entity: a\nversion: 1\nstatuses: [b]\n").message


def test_a_file_that_is_not_there_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_definition(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_definition(tmp_path / "bytes.yaml")


# --- statuses --------------------------------------------------------------------------------------------------------


def test_any_leaves_out_final_statuses_and_absent() -> None:
    text = SMALL.replace("statuses: [dark, lit]", "statuses: [dark, lit, broken]\nfinal: [broken]")
    text = text.replace("signals:", "signals:\n  dropped: {from: any, to: broken}")
    machine = compile_machine(parse_definition(text))

    assert {status for _, name, status in machine.table if name == "dropped"} == {"dark", "lit"}


def test_a_final_status_may_be_left_only_to_absent() -> None:
    final = SMALL.replace("statuses: [dark, lit]", "statuses: [dark, lit]\nfinal: [lit]")
    error = only_error(final.replace("proposals:", "  off: {from: lit, to: dark}\nproposals:"))

    assert (error.line, error.path) == (18, "signals.off.to")
    assert "lit is final" in error.message
    assert problems_of(final.replace("proposals:", "  off: {from: lit, to: absent}\nproposals:")) == []


def test_an_absent_entity_has_no_fields_to_set() -> None:
    assert problems_of(changed("to: dark\n", "to: absent\n")) == []
    assert "absent entity has no fields" in only_error(changed("to: dark\n", "set: {level: 1}\n")).message
    assert "deleted entity has no fields" in only_error(changed("    to: lit\n", "    to: absent\n")).message


# --- warnings: what a definition leaves uncovered --------------------------------------------------------------------


def found_in(text: str) -> list[tuple[int, str, str]]:
    definition = parse_definition(text)
    errors = [definition.error(problem) for problem in warnings(definition)]
    assert all(error.fix for error in errors)
    return [(error.line, error.path, error.message) for error in errors]


def test_unreachable_and_dead_end_statuses_are_warnings() -> None:
    assert found_in(changed("statuses: [dark, lit]", "statuses: [dark, lit, broken]")) == [
        (3, "statuses.1", "nothing leaves lit"),
        (3, "statuses.2", "nothing reaches broken"),
        (3, "statuses.2", "nothing leaves broken"),
    ]


MONITOR = """\
entity: monitor
version: 1
statuses: [idle, calm, alert, off]
final: [off]
fields: {bpm: {type: int, default: 0}}
signals:
  paired: {from: absent, to: idle}
  worn: {from: idle, to: calm}
  taken_off: {from: [calm, alert], to: idle}
  ended: {from: any, to: off}
  raised: {from: calm, to: alert}
  lowered: {from: alert, to: calm}
  heart_rate: {payload: {bpm: int}, @}
"""


@pytest.mark.parametrize(
    ("rule", "missed"),
    [
        ("from: any", ""),
        ("from: any, copy: bpm", ""),
        ("from: [idle, calm, alert], copy: bpm", ""),
        ("from: [calm, alert], copy: bpm", "idle"),
        ("from: [calm, alert], dedup: newest, copy: bpm", "idle"),
        ("from: calm, dedup: once, copy: bpm", ""),
        ("from: calm, dedup: [bpm], copy: bpm", "idle, alert"),
        ("from: calm, to: alert", ""),
        ("from: calm, to: alert, dedup: newest", "idle, alert"),
        ("from: [calm, alert], to: alert", "idle"),
        ("from: off, copy: bpm", ""),
        ("transitions: [{from: calm, guard: payload.bpm > 90, to: alert}, {from: calm}]", "idle, alert"),
        ("transitions: [{from: calm, copy: bpm}, {from: any}]", ""),
        ("from: [absent, calm], to: calm", "idle, alert"),
    ],
)
def test_a_fact_that_comes_again_where_nothing_takes_it(rule: str, missed: str) -> None:
    message = f"may come in {missed}, and has no transition there: it is refused each time, with an alarm"
    found = found_in(MONITOR.replace("@", rule))
    assert found == ([(13, "signals.heart_rate", message)] if missed else [])


def test_a_fact_that_stays_is_not_asked_about_before_and_not_in_another_life() -> None:
    """A parcel is not found closed at the door before it was sent; nor because the same id may be packed again."""
    text = """
entity: parcel
version: 1
statuses: [packed, sent, delivered]
final: [delivered]
fields: {attempts: {type: int, default: 0}}
signals:
  packed: {from: absent, to: packed}
  sent: {from: packed, to: sent}
  not_at_home: {from: sent, set: {attempts: state.attempts + 1}}
  delivered: {from: sent, to: delivered}
  forgotten: {from: [sent, delivered], to: absent}
"""
    assert found_in(text) == []


def test_a_fact_is_expected_after_what_it_led_to() -> None:
    """From `calm` it leads to `alert`, where it stays: nothing leads from there to `idle`."""
    text = MONITOR.replace("taken_off: {from: [calm, alert]", "taken_off: {from: calm").replace("lowered", "# lowered")
    assert found_in(text.replace("@", "from: [calm, alert], to: alert")) == []
    assert len(found_in(text.replace("@", "from: [calm, alert]"))) == 1


NOTHING = "x can never change anything: it stays where it is, and sets no field"
NEVER = "is never tried: the entity never comes to broken"


@pytest.mark.parametrize(
    ("rule", "at", "message"),
    [
        ("from: lit", "", NOTHING),
        ("from: lit, to: lit", "", NOTHING),
        ("from: [absent, lit]", "", NOTHING),
        ("from: [lit, broken]", "", NOTHING),
        ("transitions: [{from: lit}, {from: any, guard: version > 3}]", "", NOTHING),
        ("from: broken, to: lit", "", NEVER),
        ("transitions: [{from: lit, to: dark}, {from: broken, to: dark}]", ".transitions.1", NEVER),
        ("transitions: [{from: lit, to: dark}, {from: [lit, broken], to: dark}]", ".transitions.1", NEVER),
        ("from: [lit, broken], to: dark", None, ""),
        ("from: lit, to: dark, guard: 'false'", None, ""),
        ("from: lit, set: {level: 3}", None, ""),
    ],
)
def test_what_can_never_happen_or_change_anything(rule: str, at: str | None, message: str) -> None:
    text = changed("proposals:\n", f"proposals:\n  x: {{{rule}}}\n  out: {{from: [lit, broken], to: dark}}\n")
    text = text.replace("statuses: [dark, lit]", "statuses: [dark, lit, broken]")
    unreached = (3, "statuses.2", "nothing reaches broken")
    assert found_in(text) == [*([] if at is None else [(18, f"proposals.x{at}", message)]), unreached]


def test_any_leaves_out_final_statuses() -> None:
    text = "entity: a\nversion: 1\nstatuses: [b]\nfinal: [b]\nsignals: {c: {from: absent, to: b}, d: {from: any}}"
    what = "is never tried: the entity never comes to a status that `any` means (it leaves out final ones)"
    assert found_in(text) == [(5, "signals.d", what)]


def test_a_status_without_a_way_out_behind_one_that_always_holds() -> None:
    text = changed("proposals:\n", "  done: {transitions: [{from: lit}, {from: [lit, dark], to: dark}]}\nproposals:\n")
    assert found_in(text) == [(3, "statuses.1", "nothing leaves lit")]


TIMED = """\
entity: pet
version: 1
statuses: [ok, watching, alerted]
fields: {valid_to: timestamp | null, alerts: {type: int, default: 0}}
signals:
  seen: {from: absent, to: ok}
  odd: {from: ok, to: watching}
  still_odd: {payload: {valid_to: timestamp}, elsewhere: ignore, from: watching, copy: valid_to}
timers:
  nobody_answered: {from: watching, after: 30s, to: alerted}
  decays: {from: alerted, at: state.valid_to, to: ok}
"""
NOT_ARMED = (11, "timers.decays.at", "is never armed: nothing sets valid_to, so that it is always null")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("", "", []),
        ("copy: valid_to", "set: {alerts: 1}", [(3, "statuses.2", "nothing leaves alerted"), NOT_ARMED]),
        ("copy: valid_to", "set: {valid_to: null}", [(3, "statuses.2", "nothing leaves alerted"), NOT_ARMED]),
        ("copy: valid_to", "set: {valid_to: payload.valid_to}", []),
        ("timestamp | null, alerts", "{type: timestamp, default: 0}, alerts", []),
        (  # a timer leads to where another one's field is set
            "watching, copy: valid_to}",
            "watching}\n  said: {payload: {valid_to: timestamp}, dedup: once, from: alerted, copy: valid_to}",
            [],
        ),
        (
            "  still_odd: {payload: {valid_to: timestamp}, elsewhere: ignore, from: watching, copy: valid_to}\n",
            "  first: {from: watching, to: ok}\n",
            [(3, "statuses.2", "nothing leaves alerted"), NOT_ARMED],
        ),
        (
            "after: 30s, to: alerted}",
            "after: 30s}",
            [
                (3, "statuses.1", "nothing leaves watching"),
                (3, "statuses.2", "nothing reaches alerted"),
                (11, "timers.decays", "is never tried: the entity never comes to alerted"),
                (
                    10,
                    "timers.nobody_answered",
                    "nobody_answered fires, and never changes anything: it stays where it is, and sets no field",
                ),
            ],
        ),
        (
            "decays: {from: alerted, at: state.valid_to, to: ok}",
            "decays: {transitions: [{from: alerted, to: ok}, {from: [ok, alerted], to: watching}], after: 1m}",
            [],
        ),
    ],
)
def test_timers_lead_on_as_inputs_do_and_those_that_never_fire_are_named(
    old: str, new: str, found: list[tuple[int, str, str]]
) -> None:
    assert TIMED.count(old) == 1 or not old
    assert found_in(TIMED.replace(old, new) if old else TIMED) == found


def test_a_timer_of_a_field_that_only_its_own_consequence_sets_is_never_armed() -> None:
    text = TIMED.replace("from: watching, copy: valid_to", "from: alerted, copy: valid_to")
    found = found_in(text.replace("after: 30s", "at: state.valid_to"))
    assert (10, "timers.nobody_answered.at") in [(line, path) for line, path, _ in found]
    assert (3, "statuses.2", "nothing reaches alerted") in found


def test_a_fact_is_not_expected_again_because_a_late_one_is_made_good() -> None:
    late = "{from: alerted, late: true, set: {alerts: 9}}"
    clear = f"  clear: {{late: compensate, transitions: [{{from: alerted, to: ok}}, {late}]}}"
    assert [path for _, path, _ in found_in(TIMED.replace("signals:", f"signals:\n{clear}"))] == []


def test_a_fact_is_expected_where_a_timer_leads() -> None:
    text = TIMED.replace("signals:", "signals:\n  fed: {from: watching, set: {alerts: 0}}")
    missed = "may come in ok, alerted, and has no transition there: it is refused each time, with an alarm"
    assert (6, "signals.fed", missed) in found_in(text)


@pytest.mark.parametrize("time", ["", "after: null, ", "after: 1m, at: state.valid_to, "])
def test_a_timer_has_one_time(time: str) -> None:
    with pytest.raises(DefinitionError, match="a timer has one time"):
        parse_definition(TIMED.replace("after: 30s, ", time))


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "message", "fix"),
    [
        ("after: 30s", "aftr: 30s, after: 30s", 10, "timers.nobody_answered.aftr", "'aftr' is not known", "`after`"),
        ("after: 30s", "after: 30s, late: true", 10, "timers.nobody_answered.late", "'late' is not known", "`at`"),
        ("after: 30s", "after: 500ms", 10, "timers.nobody_answered.after", "shorter than a second", "`1s`"),
        ("after: 30s", "after: soon", 10, "timers.nobody_answered.after", "'soon' is no duration", "60s"),
        ("at: state.valid_to", "at: valid_to", 11, "timers.decays.at", "no field of the state", "`at: state.<"),
        ("at: state.valid_to", "at: state.valid_till", 11, "timers.decays.at", "no field 'valid_till'", "`valid_to`"),
        ("at: state.valid_to", "at: state.alerts", 11, "timers.decays.at", "alerts is int", "type timestamp"),
        ("from: alerted", "from: [absent, alerted]", 11, "timers.decays.from", "has no timers", "Take `absent` out"),
        ("to: ok}\n  odd", "to: ok, after: 30s}\n  odd", 6, "signals.seen.after", "for timers only", "below `timers:`"),
        ("  decays:", "  odd:", 11, "timers.odd", "name of a signal as well", "another name"),
        ("timers:", "timer:", 9, "timer", "'timer' is not known", "`timers`"),
    ],
)
def test_what_is_wrong_with_a_timer_is_said_with_a_fix(
    old: str, new: str, line: int, path: str, message: str, fix: str
) -> None:
    assert TIMED.count(old) == 1
    error = only_error(TIMED.replace(old, new))
    assert (error.line, error.path) == (line, path)
    assert message in error.message
    assert fix in error.fix


def test_a_timers_time_does_not_stand_in_its_transitions() -> None:
    inside = "{transitions: [{from: alerted, to: ok, after: 1m}], after: 1m}"
    error = only_error(TIMED.replace("{from: alerted, at: state.valid_to, to: ok}", inside))
    assert (error.path, error.message) == ("timers.decays.transitions.0.after", "after is of the timer itself")


def test_a_timer_has_no_late_transitions() -> None:
    late = "{transitions: [{from: alerted, to: ok}, {from: alerted, late: true}], after: 1m}"
    text = TIMED.replace("{from: alerted, at: state.valid_to, to: ok}", late)
    with pytest.raises(DefinitionError, match="late is for signals only"):
        parse_definition(text)


def test_without_a_creation_there_is_one_warning() -> None:
    text = changed("from: absent\n    to: dark", "from: dark\n    to: lit")
    assert found_in(text) == [(1, "", "nothing creates the entity: each input is refused")]


def test_ignoring_a_fact_elsewhere_is_a_warning_where_there_is_no_elsewhere() -> None:
    definition = parse_definition(changed("from: [dark, lit]", "elsewhere: ignore\n    from: [dark, lit]"))
    assert [problem.path for problem in warnings(definition)] == [("statuses", 1)], "it is absent before it is made"
    everywhere = changed("from: [dark, lit]", "elsewhere: ignore\n    from: [absent, dark, lit]")
    assert ("signals", "turned", "elsewhere") in [problem.path for problem in warnings(parse_definition(everywhere))]


def test_a_definition_that_does_not_ignore_keeps_its_digest() -> None:
    said = parse_definition(changed("from: [dark, lit]", "elsewhere: refuse\n    from: [dark, lit]"))
    assert said.digest == parse_definition(SMALL).digest
    ignores = parse_definition(changed("from: [dark, lit]", "elsewhere: ignore\n    from: [dark, lit]"))
    assert ignores.digest != said.digest
    assert parse_definition(ignores.document) == ignores


LATE = """
  turned:
    payload:
      level: int
    late: compensate
    transitions:
      - {from: dark, to: lit, copy: level}
      - {from: [dark, lit], late: true}
"""


TWICE = "{from: lit, late: true}\n      - {from: lit, late"


def late(old: str = "", new: str = "") -> str:
    text = changed(SMALL[SMALL.index("\n  turned:") : SMALL.index("proposals:")], LATE)
    assert not old or text.count(old) == 1
    return text.replace(old, new) if old else text


def test_late_facts_may_have_transitions_of_their_own() -> None:
    definition = parse_definition(late())
    assert parse_definition(definition.document) == definition
    machine = compile_machine(definition)
    rule = machine.rules[Kind.SIGNAL, "turned"]
    assert (list(rule.transitions), list(rule.compensating)) == (["dark"], ["dark", "lit"])
    assert [each.late for each in machine.table[Kind.SIGNAL, "turned", "dark"]] == [False, True]
    assert [each.late for each in machine.table[Kind.SIGNAL, "turned", "lit"]] == [True]


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ("late: true", "late: 1", "signals.turned.transitions.1.late", "valid boolean"),
        ("late: compensate", "late: refuse", "signals.turned.transitions.1.late", "is never tried"),
        ("late: compensate", "dedup: newest", "signals.turned.transitions.1.late", "is never tried"),
        ("late: compensate", "late: compensate\n    dedup: newest", "signals.turned.late", "remembers no late fact"),
        ("late: compensate", "late: compensate\n    dedup: once", "signals.turned.late", "takes no second fact"),
        ("{from: dark, to", "{from: dark, late: true, to", "signals.turned.late", "all transitions are for late facts"),
        ("{from: [dark, lit], late", TWICE, "signals.turned.transitions.2", "is never tried"),
        ("    from: lit\n", "    from: lit\n    late: true\n", "proposals.dim.late", "for signals only"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_late_transitions(old: str, new: str, path: str, message: str) -> None:
    error = only_error(late(old, new))
    assert error.path == path
    assert message in error.message
    assert error.fix


def test_a_proposal_has_no_late_transitions() -> None:
    found = only_error(
        SMALL.replace(
            "    from: lit\n    guard: payload.by > 0\n    set: {level: state.level - payload.by}\n",
            "    transitions:\n      - {from: lit, guard: payload.by > 0}\n      - {from: lit, late: true}\n",
        )
    )
    assert (found.path, found.message) == ("proposals.dim.transitions.1.late", "late is for signals only")


# --- strict YAML -----------------------------------------------------------------------------------------------------


def test_only_json_like_scalars_are_anything_but_strings() -> None:
    words = ["on", "off", "yes", "no", "True", "FALSE", "NULL", "12:30", "2013-01-01"]
    words += ["0x1F", "012", "1_000", ".5", "1.", ".inf", ".nan", "1e1000", "+1"]
    read = read_yaml("\n".join(f"- {word}" for word in [*words, "true", "false", "null", "~", "-3", "2.5", "1e3"])).data

    assert read[: len(words)] == words
    assert read[len(words) :] == [True, False, None, None, -3, 2.5, 1000.0]
    assert type(read[-3]) is int


def test_keys_are_text_and_quoted_scalars_are_strings() -> None:
    assert read_yaml("on: '1'\ntrue: \"true\"\n1: |\n  2\n").data == {"on": "1", "true": "true", "1": "2\n"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands here twice"),
        ("a: &x 1\nb: 2\n", 1, "anchors and aliases"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases"),
        ("&x a: 1\n", 1, "anchors and aliases"),
        ("a: !!int '1'\n", 1, "tags"),
        ("a: !own 1\n", 1, "tags"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("? [a]\n: 1\n", 1, "plain word"),
        ("a: [1, 2\nb: 3\n", 2, "not YAML"),
        ("a:\n\t- 1\n", 2, "not YAML"),
        ("a: b: c\n", 1, "not YAML"),
        ("a: 1\nb: \x07\n", 2, "is not allowed"),
        ("[" * 40 + "]" * 40, 1, "nested too deep"),
        ('a: 1\nb: "x\\0"\n', 2, "NUL character"),
        ('"x\\0": 1\n', 1, "NUL character"),
        ('a: "\\ud83d\\ude00"\n', 1, "half a surrogate pair"),
        ('a: "\\U00110000"\n', 0, "names no character"),
        ("%YAML 7.0\n---\na: 1\n", 1, "not YAML"),
    ],
)
def test_surprising_yaml_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read_yaml(text, "lamp.yaml")

    assert (caught.value.file, caught.value.line) == ("lamp.yaml", line)
    assert message in caught.value.message
    assert caught.value.fix


# --- fields ----------------------------------------------------------------------------------------------------------


def test_fields_of_all_types() -> None:
    text = changed(
        "  note: string | null\n",
        """\
  note: string | null
  level_name: {type: "string | null", symbols: [low, high], default: low, doc: in words}
  price: {type: decimal, precision: 10, scale: 2, default: '1.50'}
  tags: {type: array, items: string, default: []}
  counts: {type: map, values: long, default: {a: 1}}
  ratio: {type: double, default: 2}
  seen: {type: timestamp, default: 0}
""",
    )
    fields = parse_definition(text).fields

    assert (fields["level_name"].symbols, fields["level_name"].optional) == (("low", "high"), True)
    assert fields["level_name"].doc == "in words"
    assert (fields["price"].default, fields["price"].scale) == (Decimal("1.50"), 2)
    assert fields["tags"].default == []
    assert fields["counts"].default == {"a": 1}
    assert fields["ratio"].default == 2.0
    assert type(fields["ratio"].default) is float
    assert parse_definition(parse_definition(text).document).fields == fields


@pytest.mark.parametrize("default", ["'1.555'", "'123456789.00'", "1.5", "'NaN'", "'x'"])
def test_a_decimal_default_has_its_precision_and_scale(default: str) -> None:
    text = changed("note: string | null", f"price: {{type: decimal, precision: 10, scale: 2, default: {default}}}")

    assert "is no decimal(10, 2)" in only_error(text).message


def test_optional_and_double_fields_cannot_name_an_occasion() -> None:
    for kind in ("string | null", "double", "{type: array, items: int}"):
        text = changed("payload: {by: int}", f"payload: {{by: int, x: {kind}}}\n    dedup: [x]")
        assert "cannot name an occasion" in only_error(text).message


# --- document and digest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_document_reads_back_to_an_equal_definition(path: Path) -> None:
    definition = load_definition(path)
    again = parse_definition(definition.document)

    assert again == definition
    assert again.digest == definition.digest
    assert again.document == definition.document
    assert list(again.fields) == list(definition.fields)


def test_the_digest_covers_the_rules_and_nothing_else() -> None:
    digest = parse_definition(SMALL).digest

    assert len(digest) == 16
    assert parse_definition("# a comment\n" + SMALL.replace("[dark, lit]", "[ dark,  lit ]")).digest == digest
    assert parse_definition(changed("entity: lamp", "entity: lamp\nhorizon: 24h")).digest == digest
    assert parse_definition(changed("default: 0}", "default: 0, doc: brightness}")).digest == digest
    assert parse_definition(changed("payload.by > 0", "payload.by > 1")).digest != digest
    assert parse_definition(changed("version: 1", "version: 2")).digest != digest
    assert parse_definition(changed("default: 0}", "default: 1}")).digest != digest


@pytest.mark.parametrize("doc", ["hell — 50 %", "a\u2028b\x85c\x7f\ufeff\t\n# no comment: {[", "\U0001f4a1", ""])
def test_docs_stand_in_the_document_whatever_they_say(doc: str) -> None:
    escaped = "".join(f"\\U{ord(character):08x}" for character in doc)
    text = changed("default: 0}", f'default: 0, doc: "{escaped}"}}')

    assert parse_definition(text).fields["level"].doc == doc
    assert parse_definition(parse_definition(text).document).fields["level"].doc == doc


@given(at=st.integers(0, len(SMALL)), cut=st.integers(0, 3), put=st.text(max_size=4) | st.sampled_from(SYNTAX))
def test_whatever_is_written_there_is_a_definition_or_an_error_with_a_fix(at: int, cut: int, put: str) -> None:
    text = SMALL[:at] + put + SMALL[at + cut :]
    found = problems_of(text)

    assert all(error.fix for error in found)
    if not found:
        definition = parse_definition(text)
        assert parse_definition(definition.document) == definition
        assert all(error.fix for error in compile_problems(definition))


# --- python functions ------------------------------------------------------------------------------------------------


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module beside Placet; its name is new for each test, as modules are imported once."""
    path = tmp_path / f"lamp_rules_{abs(hash(str(tmp_path)))}.py"
    path.write_text("def bright(scope):\n    return scope.fields['level'] < 10\n")
    monkeypatch.syspath_prepend(tmp_path)
    return path


def with_function(module: str, name: str = "bright") -> str:
    return changed("guard: payload.by > 0", f"guard: python:{module}:{name}")


def test_a_functions_source_is_part_of_the_digest(rules: Path) -> None:
    definition = parse_definition(with_function(rules.stem))
    other = rules.with_name(f"{rules.stem}_b.py")
    other.write_text("def bright(scope):\n    return scope.fields['level'] < 11\n")
    other_definition = parse_definition(with_function(other.stem))

    assert list(definition.sources) == [f"python:{rules.stem}:bright"]
    assert next(iter(definition.sources.values())) != next(iter(other_definition.sources.values()))
    assert definition.digest != other_definition.digest
    assert parse_definition(definition.document).digest == definition.digest


def test_a_published_definition_does_not_run_with_other_code(rules: Path) -> None:
    definition = parse_definition(with_function(rules.stem))
    reference, digest = next(iter(definition.sources.items()))
    foreign = parse_definition(definition.document.replace(digest, "0" * 32))

    assert foreign.digest != definition.digest
    with pytest.raises(DefinitionError, match="is not the one that this definition was loaded with") as caught:
        compile_machine(foreign)
    assert reference in caught.value.message


def test_a_published_definition_can_be_read_without_the_code() -> None:
    text = with_function("not_installed_here") + "sources: {'python:not_installed_here:bright': '00'}\n"

    assert parse_definition(text).sources == {"python:not_installed_here:bright": "00"}
    with pytest.raises(DefinitionError, match="does not import"):
        compile_machine(parse_definition(text))


@pytest.mark.parametrize(
    ("reference", "message", "fix"),
    [
        ("python:nowhere_to_be_found:f", "does not import: ModuleNotFoundError", "PYTHONPATH"),
        ("python:json:nothing", "has no function nothing", "def nothing(scope)"),
        ("python:json:JSONEncoder", "has no function", "def JSONEncoder(scope)"),
        ("python:json.dumps", "names no function", "python:package.module:function"),
        ("python:os; x:f", "names no function", "python:package.module:function"),
    ],
)
def test_a_function_that_is_not_there_is_an_error_with_its_line(reference: str, message: str, fix: str) -> None:
    error = only_error(changed("guard: payload.by > 0", f"guard: {reference!r}"))

    assert (error.line, error.path) == (21, "proposals.dim.guard")
    assert message in error.message
    assert fix in error.fix


def test_a_module_that_raises_while_it_is_imported_is_an_error(rules: Path) -> None:
    rules.write_text("raise SystemError('half installed')\n")

    assert "does not import: SystemError: half installed" in only_error(with_function(rules.stem)).message
