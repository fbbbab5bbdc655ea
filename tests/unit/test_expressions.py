"""Expressions: literals and paths are plain Python, the rest is CEL with its traps closed."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from placet.processors.expressions.assignments import assign, is_boolean
from placet.processors.expressions.compile import SOURCE_BYTES_MAX, compile_expression
from placet.processors.expressions.scope import Compiled, Failed, Scope, Variable
from placet.processors.expressions.units import refuse_wrong_units
from placet.schemas.definition.field_types import Field
from placet.schemas.errors import DefinitionError

TYPES: dict[str, Any] = {
    "count": "int",
    "big": "long",
    "ratio": "double",
    "name": "string",
    "flag": "boolean",
    "seen": "timestamp",
    "opt_count": "int | null",
    "opt_name": "string | null",
    "opt_flag": "boolean | null",
    "opt_seen": "timestamp | null",
    "price": {"type": "decimal", "precision": 9, "scale": 2},
    "opt_price": {"type": "decimal | null", "precision": 9, "scale": 2},
    "level": {"type": "string", "symbols": ["low", "high"]},
    "tags": {"type": "array", "items": "string"},
    "times": {"type": "array", "items": "timestamp"},
    "counts": {"type": "map", "values": "int"},
    "opt_counts": {"type": "map | null", "values": "int"},
}
FIELDS = {name: Field.model_validate(written) for name, written in TYPES.items()}


def _read(name: str) -> Callable[[Scope], Any]:
    return lambda scope: scope.fields[name]


NAMES = {f"state.{name}": Variable(f"state.{name}", field, _read(name)) for name, field in FIELDS.items()}
NAMES["status"] = Variable("status", Field.model_validate("string"), lambda scope: scope.status)
NAMES["event_time"] = Variable("event_time", Field.model_validate("timestamp"), lambda scope: scope.event_time)


def scope(**fields: Any) -> Scope:
    return Scope(fields, {}, "open", 7, "e1", 1_357_034_400_123, 1_357_034_400_999, "bot")


def run(text: str, **fields: Any) -> Any:
    return compile_expression(text, NAMES).evaluate(scope(**fields))


def load(text: str, field: str | None) -> None:
    compiled = compile_expression(text, NAMES)
    if field is not None:
        assign(compiled, FIELDS[field])


def refused(text: str, field: str | None = None) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        load(text, field)
    assert caught.value.fix
    return caught.value


# --- literals, paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "result"),
    [
        ("10", 10, "INT"),
        ("-3", -3, "INT"),
        ("1.5", 1.5, "DOUBLE"),
        ("true", True, "BOOL"),
        ("false", False, "BOOL"),
        ("null", None, "NULL"),
        ("'high'", "high", "STRING"),
        ('"it\'s"', "it's", "STRING"),
        ("''", "", "STRING"),
    ],
)
def test_literals_are_constants(text: str, value: Any, result: str) -> None:
    compiled = compile_expression(text, {})

    assert compiled.evaluate(scope()) == value
    assert (compiled.result, compiled.reads, compiled.is_constant) == (result, (), True)


@pytest.mark.parametrize("name", FIELDS)
def test_a_plain_path_reads_any_type_as_it_is(name: str) -> None:
    """Also a decimal or an optional timestamp, which CEL could not take."""
    value = object()
    compiled = compile_expression(f"state.{name}", NAMES)

    assert compiled.evaluate(scope(**{name: value})) is value
    assert compiled.source is NAMES[f"state.{name}"]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ("state.cuont < 10", "'state.cuont' is not known", "Did you mean `state.count`?"),
        ("state.cuont", "'state.cuont' is not known", "Did you mean `state.count`?"),
        ("state.count.x < 10", "operand of a select operation", ""),
        ("state == 1", "'state' is not known", "status"),
        ("counts > 1", "'counts' is not known", ""),
        ("payload.x > 1", "there is no payload here", "invariants see none"),
        ("payload.x", "there is no payload here", "invariants see none"),
        ("now() > event_time", "there is no clock", "`event_time` or `decided_at`"),
        ("now", "there is no clock", "`event_time` or `decided_at`"),
        ("status == open", "'open' is not known", "\"'open'\""),
        ("rand() > 1", "'rand' is not known", ""),
    ],
)
def test_an_unknown_name_fails_at_load(text: str, message: str, fix: str) -> None:
    error = refused(text)

    assert message in error.message
    assert fix in error.fix


# --- the traps of cel-expr-python ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("1 / state.count > 0", {"count": 0}),
        ("state.opt_count > 1", {"opt_count": None}),
        ("state.opt_flag && true", {"opt_flag": None}),
        ("state.counts['x'] == 1", {"counts": {}}),
        ("state.tags[3] == 'x'", {"tags": ["a"]}),
        ("state.big + 1 > 0", {"big": (1 << 63) - 1}),
        ("int(state.name) > 0", {"name": "x"}),
        ("state.count > 0", {"count": None}),
        ("state.count > 0", {"count": "9"}),
        ("state.count > 0", {"count": 1 << 70}),
        ("state.name == 'x'", {"name": "\ud800"}),
        ("event_time > state.seen", {"seen": 1 << 62}),
        ("state.tags.exists(a, state.tags.exists(b, state.tags.exists(c, a + b + c == '')))", {"tags": ["x"] * 1000}),
    ],
)
def test_an_evaluation_error_is_failed_never_a_truthy_text(text: str, fields: dict[str, Any]) -> None:
    result = run(text, **fields)

    assert isinstance(result, Failed)
    assert result.detail
    assert "\n" not in result.detail
    assert len(result.detail) <= 200


@pytest.mark.parametrize("text", ["has(state.opt_count)", "1 > 0 && has( state . opt_count )", "has(status)"])
def test_has_is_refused_by_name(text: str) -> None:
    error = refused(text)

    assert "does not test presence" in error.message
    assert "!= null`" in error.fix


def test_has_on_a_maps_key_works_and_in_a_text_is_no_has() -> None:
    assert run("has(state.counts.x)", counts={"x": 1}) is True
    assert run("has(state.counts.x)", counts={}) is False
    assert run("state.name == 'has(state.name)'", name="has(state.name)") is True


@pytest.mark.parametrize(
    ("text", "value", "result"),
    [
        ("state.opt_count == null", None, True),
        ("state.opt_count == null", 3, False),
        ("state.opt_count != null && state.opt_count > 2", None, False),
        ("state.opt_count != null && state.opt_count > 2", 3, True),
        ("state.opt_count == null ? 0 : state.opt_count + 1", None, 0),
        ("state.opt_count == null ? 0 : state.opt_count + 1", 3, 4),
    ],
)
def test_optional_fields_are_compared_with_null_first(text: str, value: int | None, result: object) -> None:
    assert run(text, opt_count=value) == result


@pytest.mark.parametrize(("present", "result"), [(None, False), (0, True), (1_357_034_400_000, True)])
@pytest.mark.parametrize("text", ["state.opt_seen != null && true", "null != state . opt_seen || false"])
def test_an_optional_timestamp_can_be_compared_with_null(text: str, present: int | None, result: bool) -> None:
    assert run(text, opt_seen=present) is result


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ("state.opt_seen > event_time", "only be compared with null", "default of 0"),
        ("state.opt_seen == null || state.opt_seen > event_time", "only be compared with null", "`!= null`"),
        ("state.opt_seen == nullish", "only be compared with null", ""),
        ("state.price > 1.0", "is a decimal", "minor units"),
        ("state.opt_price > 1.0", "is a decimal", "minor units"),
        ("state.times.size() > 1", "holds timestamps", "long"),
    ],
)
def test_types_that_fail_at_run_time_are_refused_at_load(text: str, message: str, fix: str) -> None:
    error = refused(text)

    assert message in error.message
    assert fix in error.fix


def test_an_optional_decimal_can_be_compared_with_null() -> None:
    assert run("state.opt_price == null || state.count > 1", opt_price=None, count=0) is True


def test_a_text_with_nul_fails_before_cel_cuts_it() -> None:
    """CEL's binding reads texts up to the first NUL: 'admin\\0x' would equal 'admin'."""
    assert isinstance(run("state.name == 'admin' || false", name="admin\0x"), Failed)
    assert isinstance(run("'admin' in state.tags", tags=["a", "admin\0x"]), Failed)
    assert isinstance(run("'admin' in state.counts", counts={"admin\0x": 1}), Failed)
    assert isinstance(run("state.opt_name == 'admin'", opt_name="admin\0x"), Failed)


@pytest.mark.parametrize(
    "text",
    [
        "state.counts.map(k, k)[0] == 'a'",
        "state.counts.filter(k, k > 'a').size() > 1",
        "{'a': 1, 'b': 2}.map(k, k)",
        "state.opt_counts . map (k, k)[0] == 'a'",
    ],
)
def test_lists_made_from_maps_are_refused_as_their_order_is_random(text: str) -> None:
    assert "order of a map's keys" in refused(text).message


def test_tests_over_maps_do_not_depend_on_order() -> None:
    assert run("state.counts.exists(k, state.counts[k] > 1)", counts={"a": 1, "b": 2}) is True
    assert run("state.counts.all(k, state.counts[k] > 1)", counts={"a": 1, "b": 2}) is False
    assert run("state.tags.map(t, t + '!')", tags=["a", "b"]) == ["a!", "b!"]


def test_details_read_the_same_in_every_process(function: Callable[[str], Compiled]) -> None:
    text = "state.counts.all(k, state.counts[k] / (k == 'a' ? 0 : int(k)) > 0)"
    assert run(text, counts={"a": 1, "b": 2}) == Failed("an error over a map")
    assert assign(function("return object()"), FIELDS["count"])(scope()) == Failed("expected int, got object")
    mixed = compile_expression("dyn({'b': 1, 'a': 2, 'c': state.count})", NAMES)
    assert assign(mixed, FIELDS["count"])(scope(count=1)) == Failed("expected int, got dict")


def test_named_time_zones_are_refused_offsets_are_not() -> None:
    assert "time zone depends on the machine" in refused("event_time.getHours('Europe/Berlin') > 8").message
    assert "time zone depends on the machine" in refused("event_time.getHours(state.name) > 8").message
    assert run("event_time.getHours()") == 10
    assert run("event_time.getHours('+02:00')") == 12


def test_the_math_extension_is_there() -> None:
    assert run("math.greatest(state.count, 3)", count=5) == 5


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ("state.ratio > 1", "(double, int)", "1.0"),
        ("state.count > 1.5", "(int, double)", "without a point"),
        ("status == 'a' ? null : 'b'", "null_type", "dyn(null)"),
        ("event_time > 5", "Timestamp", "times with times"),
        ("state.count >", "Syntax error", "quotes"),
        ("(" * 300 + "1" + ")" * 300, "recursion", "parentheses"),
        ("state.count > 1\n  && state.ratio > 1", "(column", ""),
        ("'" + "x" * SOURCE_BYTES_MAX + "'", "longer than 4096 bytes", "python:"),
        ("  ", "empty", "Leave the key out"),
    ],
)
def test_type_and_syntax_errors_say_what_to_write(text: str, message: str, fix: str) -> None:
    error = refused(text)

    assert message in error.message
    assert fix in error.fix
    assert "\n" not in error.message


def test_an_expression_takes_fewer_than_ten_thousand_steps() -> None:
    """CEL's own budget, and part of the contract: the same input must be refused by every release."""
    for text, most in (
        ("state.tags.all(t, t == 'a')", 9_999),
        ("state.tags.all(t, t == 'a') && state.tags.all(t, t == 'a')", 4_999),
        ("state.tags.all(t, state.tags.all(u, t == u))", 99),
        ("size(state.tags.map(t, t + 'b')) > 0", 9_999),
    ):
        assert run(text, tags=["a"] * most) is True, text
        assert run(text, tags=["a"] * (most + 1)) == Failed("INTERNAL: Iteration budget exceeded [INTERNAL]"), text
    assert run("'b' in state.tags || size(state.tags) > 5", tags=["a"] * 50_000) is True


def test_numbers_of_times_are_seconds() -> None:
    """As CEL's specification has it; the page says so, because fields are milliseconds."""
    assert run("int(event_time)") == 1_357_034_400
    assert run("duration('5m').getMilliseconds()") == 0
    assert run("duration('1.5s').getMilliseconds()") == 500
    assert run("event_time - state.seen > duration('5m')", seen=1_357_034_400_123 - 300_001) is True


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("int(event_time) - state.count < 300000", "int(…) of a time gives seconds, and fields hold milliseconds"),
        ("state.count < int ( state.seen )", "of a time gives seconds"),
        ("[event_time].exists(t, int(t) > 5)", "of a time gives seconds"),
        ("int(timestamp('2026-01-01T00:00:00Z')) > 5", "of a time gives seconds"),
        ("int(double(int(event_time)) * 1.5) > 5", "of a time gives seconds"),
        ("int(event_time - state.seen) > 5", "int(…) of a duration fails with every input"),
        ("state.count > duration('5m').getMilliseconds()", "part below a second: 0 for 5m"),
        ("(event_time - state.seen) . getMilliseconds() < 5", "part below a second"),
        ("event_time.getMilliseconds() - state.count < 300000", "of a time gives its part below a second, 0 to 999"),
        ("event_time.getSeconds() - state.count < 300", "of a time gives its part below a minute, 0 to 59"),
        ("state.seen . getSeconds ('+01:00') > 5", "of a time gives its part below a minute"),
    ],
)
def test_seconds_are_not_taken_for_milliseconds_in_new_definitions(text: str, says: str) -> None:
    compile_expression(text, NAMES)  # as a gate does with what was published
    with pytest.raises(DefinitionError) as found:
        refuse_wrong_units(text, NAMES)
    assert says in found.value.message
    assert "Compare times with times, such as `decided_at - event_time > duration('5m')`" in found.value.fix


@pytest.mark.parametrize(
    ("text", "says", "fix"),
    [
        ("timestamp(state.big) < event_time", "timestamp(…) of a number takes seconds", "`millis(decided_at) - state"),
        ("timestamp(1767225600) < event_time", "takes seconds", "`millis(decided_at) - state.at_ms > 300000`"),
        ("event_time > timestamp ( state.count * 2 )", "takes seconds", "keep times in timestamp fields"),
        ("state.opt_count == null || timestamp(state.opt_count) < event_time", "takes seconds", "timestamp fields"),
        (
            "duration(300) < event_time - state.seen",
            "duration(…) of a number fails with every input",
            "duration('300s')",
        ),
        (
            "duration(state.count) < event_time - state.seen",
            "of a number fails with every input",
            "`millis(…) > 300000`",
        ),
        ("event_time - state.seen > duration('1d')", "duration('1d') fails with every input", "`duration('24h')`"),
        ('event_time - state.seen > duration( "300000" )', "fails with every input", "Units are h, m, s and ms"),
        ("event_time > timestamp('2026-01-01')", "fails with every input", "timestamp('2026-01-31T12:00:00Z')"),
        ("state.opt_count != event_time", "state.opt_count is a number, and stands beside a time", "millis("),
        ("state.opt_count != null && state.opt_count < event_time", "stands beside a time", "make it a timestamp"),
        ("state.opt_count != null && event_time - state.opt_count > duration('5m')", "beside a time", "millis("),
        ("state.opt_count != null && millis(state.opt_count) > 5", "beside a time", "millis(decided_at) - state.opt_c"),
    ],
)
def test_numbers_are_not_taken_for_times_in_new_definitions(text: str, says: str, fix: str) -> None:
    compile_expression(text, NAMES)
    with pytest.raises(DefinitionError) as found:
        refuse_wrong_units(text, NAMES)
    assert says in found.value.message
    assert fix in found.value.fix


@pytest.mark.parametrize(
    "text",
    [
        "event_time - state.seen > duration('5m')",
        "state.seen > event_time - duration('5m') && state.seen + duration('90m') >= event_time",
        "millis(event_time) - state.big < 300000 && millis(event_time - state.seen) > 5",
        "millis(event_time) / 1000 % 60 == 3",
        "event_time - timestamp(0) > duration('1h')",
        "timestamp(state.name + 'T00:00:00Z') < event_time && timestamp(event_time) > state.seen",
        "state.opt_name == null || timestamp(state.opt_name) < event_time",
        "duration(string(state.count) + 's') < event_time - state.seen",
        "event_time.getHours('+01:00') * 60 + event_time.getMinutes('+01:00') > 600",
        "(event_time - state.seen).getHours() > 5",
        "state.opt_count != null && state.opt_count > 1.5 && null != state.opt_count",
        "state.opt_count == null || millis(event_time) - state.opt_count > 300000",
        "(state.opt_count == null ? 0 : state.opt_count) + 1 > state.count",
        "state.name == 'duration(5)' || state.name == \"duration('1d')\"",
        "(event_time - timestamp('1970-01-01T00:00:00Z')).getSeconds() > state.count",
        "(event_time - state.seen).getSeconds() * 1000 + (event_time - state.seen).getMilliseconds() > 5",
        "event_time.getFullYear() > 2000",
        "int('7') > 5 && int(1.5) > 0 && int(state.count) > 0",
        "state.name == 'int(event_time)' || state.name == \"duration('5m').getMilliseconds()\"",
    ],
)
def test_what_says_its_unit_is_not_refused(text: str) -> None:
    compile_expression(text, NAMES)
    refuse_wrong_units(text, NAMES)


def test_the_page_says_what_is_refused_and_what_to_write_instead() -> None:
    page = (Path(__file__).parents[2] / "docs" / "definition.md").read_text()
    table = page.partition("| refused | because | write |")[2].partition("\n\n")[0].splitlines()[2:]
    names = {**NAMES, "decided_at": NAMES["event_time"]}
    names["state.at_ms"] = Variable("state.at_ms", Field.model_validate("long | null"), _read("at_ms"))
    rows = [[re.findall(r"`([^`]+)`", cell) for cell in row.strip(" |").split(" | ")] for row in table]
    rows[-1][0] = rows[-1][0][:1]  # the others there are no expressions
    assert len(rows) == 7
    for wrong, _, right in rows:
        assert wrong
        assert right
        for text in wrong:
            with pytest.raises(DefinitionError):
                refuse_wrong_units(text, names)
        for text in right:
            compile_expression(text, names)
            refuse_wrong_units(text, names)


def test_the_ways_out_that_are_named_give_what_they_say() -> None:
    assert run("millis(event_time) / 1000") == run("int(event_time)")
    assert run("millis(event_time) / 1000 % 60") == run("event_time.getSeconds()")
    assert run("millis(event_time) % 1000") == run("event_time.getMilliseconds()") == 123


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("millis(event_time)", 1_357_034_400_123),
        ("millis(event_time - state.seen)", 300_001),
        ("millis(state.seen - event_time)", -300_001),
        ("millis(duration('5m'))", 300_000),
        ("millis(duration('-1500ms'))", -1_500),
        ("millis(timestamp('1969-12-31T23:59:59.999Z'))", -1),
        ("millis(timestamp('1969-12-31T23:59:59.9995Z'))", -1),
        ("millis(timestamp('0001-01-01T00:00:00Z'))", -62_135_596_800_000),
        ("millis(timestamp('9999-12-31T23:59:59.999Z'))", 253_402_300_799_999),
        ("[state.seen, event_time].exists(t, millis(t) == 1357034400123)", True),
        ("[event_time].exists(millis_, millis(millis_) == 1357034400123)", True),
        ("millis(timestamp(0) + duration(string(millis(event_time)) + 'ms'))", 1_357_034_400_123),
        ("millis ( event_time ) / 1000 * 1000 + millis(event_time) % 1000", 1_357_034_400_123),
        ("status != 'millis(event_time)' && millis(event_time) > 5", True),
        ("status != '''it's millis(x)''' && status != r'\\\\' && millis(event_time) > 5", True),
        ('status != r\'millis(x)\' && status != """\'" + \'millis(x)""" && millis(event_time) > 5', True),
        ("'millis(' + string(millis(event_time - state.seen)) == 'millis(300001'", True),
        ("millis(event_time) - state.big < 300000", True),
    ],
)
def test_millis_gives_whole_milliseconds(text: str, value: int | bool) -> None:
    compiled = compile_expression(text, NAMES)
    found = compiled.evaluate(scope(seen=1_357_034_400_123 - 300_001, big=1_357_034_400_000))
    assert (found, type(found)) == (value, type(value))
    assert compiled.result == ("BOOL" if isinstance(value, bool) else "INT")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("millis(state.count)", "no matching overload for 'millis' applied to '(int)'"),
        ("millis(state.name) > 5", "applied to '(string)'"),
        ("millis(event_time, 5)", "millis takes one argument"),
        ("event_time.millis() > 5", "millis takes one argument"),
        ("millis(millis(event_time)) > 5", "applied to '(int)'"),
    ],
)
def test_millis_takes_a_time_or_a_duration(text: str, message: str) -> None:
    error = refused(text)
    assert message in error.message
    assert error.fix == "Give it one time or duration: `millis(decided_at)`, `millis(decided_at - event_time)`."
    assert "'x' is not known" in refused("cel.bind(x, event_time, x) == event_time && millis(event_time) > 5").message


@pytest.mark.parametrize("text", ["event_time > 5", "event_time + 5 > state.seen", "duration('5m') > state.count"])
def test_a_number_is_neither_a_time_nor_a_duration(text: str) -> None:
    fix = "Compare times with times, add `duration('60s')`, or take milliseconds: `millis(…)`."
    assert refused(text).fix == fix


# --- what an expression sees -----------------------------------------------------------------------------------------


def test_only_the_names_that_are_used_are_read() -> None:
    compiled = compile_expression("state.count < 10 && state.name != 'state.big'", NAMES)

    assert sorted(compiled.reads) == ["state.count", "state.name"]
    assert compiled.evaluate(Scope({"count": 1, "name": ""}, {}, "", 0, "", 0, 0, "")) is True


@pytest.mark.parametrize(
    "text",
    [
        "state.tags.exists(status, status == 'x') || state.count > 0",
        "state.count > 0 // it's a comment",
        "state . count>0",
        r"'it\'s' != '' && state.count > 0",
        'r"\\d" == "" || state.count > 0',
        '"""state.big""" == "" || state.count > 0',
    ],
)
def test_names_are_found_however_they_are_written(text: str) -> None:
    assert run(text, count=1, tags=[], status="open") is True


def test_times_are_milliseconds_outside_and_timestamps_inside() -> None:
    later = compile_expression("event_time + duration('1m')", NAMES)
    store = assign(later, FIELDS["seen"])

    assert later.result == "TIMESTAMP"
    assert store(scope()) == 1_357_034_400_123 + 60_000
    for milliseconds in (0, -1, 1, -86_400_001, 253_402_300_799_998, -62_135_596_799_999):
        kept = assign(compile_expression("true ? state.seen : event_time", NAMES), FIELDS["seen"])
        assert kept(scope(seen=milliseconds)) == milliseconds


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["state.count", "'yes'", "state.opt_flag", "null", "dyn(true)", "state.count + 1"])
def test_a_guard_must_be_a_boolean(text: str) -> None:
    with pytest.raises(DefinitionError):
        is_boolean(compile_expression(text, NAMES))


@pytest.mark.parametrize("text", ["true", "state.flag", "!state.flag", "state.opt_flag == true"])
def test_booleans_are_guards(text: str) -> None:
    is_boolean(compile_expression(text, NAMES))


@pytest.mark.parametrize(
    ("text", "field", "fix"),
    [
        ("'x' + 'y'", "count", "int(…)"),
        ("1 + 1", "name", "string(…)"),
        ("1.5 + 1.0", "count", "int(…)"),
        ("state.count > 1", "count", "int(…)"),
        ("state.count + 1", "seen", "event_time"),
        ("state.big", "seen", "event_time"),
        ("event_time", "big", "timestamp"),
        ("event_time - state.seen", "big", "int(…)"),
        ("state.count + 1", "price", "copy one"),
        ("1.5", "price", "copy one"),
        ("[1, 2]", "tags", "type"),
        ("{'a': 'x'}", "counts", "type"),
        ("1u", "count", "int(…)"),
        ("b'x'", "name", "string(…)"),
        ("state.opt_name", "name", "state.opt_name == null ? … : state.opt_name"),
        ("null", "name", "string(…)"),
        ("'medium'", "level", "value of the field's type"),
        ("2147483647 + 1", "count", "value of the field's type"),
        ("state.price", "opt_count", "int(…)"),
    ],
)
def test_a_value_that_never_fits_is_refused_at_load(text: str, field: str, fix: str) -> None:
    assert fix in refused(text, field).fix


@pytest.mark.parametrize(
    ("text", "field", "fields", "value"),
    [
        ("state.count + 1", "ratio", {"count": 1}, 2.0),
        ("state.count", "ratio", {"count": 1}, 1.0),
        ("state.count", "big", {"count": 1}, 1),
        ("state.big", "count", {"big": 1}, 1),
        ("state.name", "level", {"name": "high"}, "high"),
        ("state.name + ''", "level", {"name": "high"}, "high"),
        ("state.name", "opt_name", {"name": "x"}, "x"),
        ("null", "opt_name", {}, None),
        ("state.opt_count == null ? 0 : state.opt_count", "count", {"opt_count": 5}, 5),
        ("state.tags + ['x']", "tags", {"tags": ["a"]}, ["a", "x"]),
        ("[]", "tags", {}, []),
        ("{}", "counts", {}, {}),
        ("{'b': 1, 'a': 2}", "counts", {}, {"a": 2, "b": 1}),
    ],
)
def test_a_value_that_fits_is_stored_in_the_fields_type(text: str, field: str, fields: Any, value: Any) -> None:
    result = assign(compile_expression(text, NAMES), FIELDS[field])(scope(**fields))

    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "field", "fields"),
    [
        ("state.count + 1", "count", {"count": (1 << 31) - 1}),
        ("state.big", "count", {"big": 1 << 31}),
        ("state.name", "level", {"name": "medium"}),
        ("state.ratio / 0.0", "ratio", {"ratio": 1.0}),
        ("state.ratio / 0.0", "ratio", {"ratio": 0.0}),
        ("dyn(state.name)", "count", {"name": "x"}),
        ("state.opt_count == null ? dyn(null) : 1", "count", {"opt_count": None}),
        ("dyn(state.count)", "seen", {"count": 5}),
        ("state.tags.map(t, dyn(1))", "tags", {"tags": ["a"]}),
        ("1 / state.count", "count", {"count": 0}),
    ],
)
def test_a_value_that_does_not_fit_fails_at_run_time(text: str, field: str, fields: Any) -> None:
    assert isinstance(assign(compile_expression(text, NAMES), FIELDS[field])(scope(**fields)), Failed)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_infinities_and_nan_are_no_doubles(value: float) -> None:
    assert isinstance(assign(Compiled(lambda _: value, "PYTHON", ()), FIELDS["ratio"])(scope()), Failed)


def test_a_map_is_stored_in_the_same_order_in_every_process() -> None:
    """The order of a map that CEL makes differs from process to process."""
    program = (
        "from placet.processors.expressions.assignments import assign\n"
        "from placet.processors.expressions.compile import compile_expression\n"
        "from placet.processors.expressions.scope import Scope\n"
        "from placet.schemas.definition.field_types import Field\n"
        "field = Field.model_validate({'type': 'map', 'values': 'int'})\n"
        'text = \'{"z": 1, "y": 2, "a": 3, "c": 4}\'\n'
        "print(list(assign(compile_expression(text, {}), field)(Scope({}, {}, '', 0, '', 0, 0, ''))))\n"
    )
    runs = {subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout for _ in range(3)}

    assert runs == {b"['a', 'c', 'y', 'z']\n"}


# --- python functions ------------------------------------------------------------------------------------------------


@pytest.fixture
def function(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Compiled]:
    """Compiles an expression that is a Python function with the given body."""

    def compiled(body: str) -> Compiled:
        module = f"rules_{abs(hash((str(tmp_path), body)))}"
        (tmp_path / f"{module}.py").write_text(f"def f(scope):\n    {body}\n")
        monkeypatch.syspath_prepend(tmp_path)
        return compile_expression(f"python:{module}:f", NAMES)

    return compiled


def test_a_function_sees_the_scope(function: Callable[[str], Compiled]) -> None:
    compiled = function("return (scope.fields['count'], scope.status, scope.version, scope.proposer)")

    assert compiled.evaluate(scope(count=3)) == (3, "open", 7, "bot")
    assert compiled.result == "PYTHON"


def test_a_functions_exception_is_failed_and_reads_the_same_every_time(function: Callable[[str], Compiled]) -> None:
    result = function("raise KeyError(object())").evaluate(scope())

    assert isinstance(result, Failed)
    assert "KeyError: <object object at 0x…>" in result.detail


def test_a_function_cannot_change_the_state(function: Callable[[str], Compiled]) -> None:
    fields = {"count": 3}
    result = function("scope.fields['count'] = 4").evaluate(Scope(fields, {}, "", 0, "", 0, 0, ""))

    assert isinstance(result, Failed)
    assert fields == {"count": 3}


@pytest.mark.parametrize(
    "body",
    [
        "scope.fields['tags'].append('c')",
        "scope.fields['tags'].clear()",
        "scope.payload['rooms'].update(z=1)",
        "scope.payload['rooms'].pop('a')",
    ],
)
def test_what_a_function_does_to_a_list_or_map_is_lost(function: Callable[[str], Compiled], body: str) -> None:
    fields, payload = {"tags": ["a", "b"]}, {"rooms": {"a": 1}}
    evaluate = function(f"{body}; return True").evaluate

    assert evaluate(Scope(fields, payload, "", 0, "", 0, 0, "")) is True
    assert (fields, payload) == ({"tags": ["a", "b"]}, {"rooms": {"a": 1}})


@pytest.mark.parametrize(
    "body", ["import sys; sys.exit()", "import sys; sys.exit('done')", "raise SystemExit(3)", "exit()"]
)
def test_a_function_that_ends_the_process_refuses_the_input(function: Callable[[str], Compiled], body: str) -> None:
    result = function(body).evaluate(scope())

    assert isinstance(result, Failed)
    assert "SystemExit" in result.detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise BaseException('odd')", "BaseException: odd"),
        ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()", "E: it can't be shown"),
        ("raise ValueError('\\ud800')", "ValueError: \\ud800"),
    ],
)
def test_whatever_a_function_raises_can_be_written_down(
    function: Callable[[str], Compiled], body: str, said: str
) -> None:
    result = function(body).evaluate(scope())

    assert isinstance(result, Failed)
    assert result.detail.endswith(said)
    assert result.detail.encode()


def test_a_person_can_interrupt_a_function(function: Callable[[str], Compiled]) -> None:
    """Outside a gate, as in `placet verify`: an input that Ctrl-C came upon is not refused by that."""
    with pytest.raises(KeyboardInterrupt):
        function("raise KeyboardInterrupt").evaluate(scope())


def test_endless_recursion_is_failed_and_reads_the_same_from_each_depth(function: Callable[[str], Compiled]) -> None:
    evaluate = function("return f(scope)").evaluate

    def deeper(levels: int) -> object:
        return deeper(levels - 1) if levels else evaluate(scope())

    assert deeper(0) == deeper(50) == deeper(99)
    assert isinstance(deeper(0), Failed)


def test_a_module_that_ends_the_process_does_not_import(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules_that_end.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DefinitionError, match="rules_that_end does not import: SystemExit: 3"):
        compile_expression("python:rules_that_end:f", NAMES)


def test_a_functions_result_is_checked_against_the_field(function: Callable[[str], Compiled]) -> None:
    assert assign(function("return 5"), FIELDS["count"])(scope()) == 5
    assert isinstance(assign(function("return '5'"), FIELDS["count"])(scope()), Failed)
    assert isinstance(assign(function("return True"), FIELDS["count"])(scope()), Failed)
    assert isinstance(assign(function("return None"), FIELDS["count"])(scope()), Failed)
    assert assign(function("return scope.event_time + 1"), FIELDS["seen"])(scope()) == 1_357_034_400_124
    assert isinstance(
        assign(function("import datetime; return datetime.datetime(2013, 1, 1)"), FIELDS["seen"])(scope()), Failed
    )
