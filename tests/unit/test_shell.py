"""The shell's words: payloads, times and durations as people write them, and what every command says of itself."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from placet.cli import app
from placet.cli.explain import _commit_lines
from placet.cli.output import OutputForm
from placet.cli.propose import _pairs
from placet.cli.shared import changes_form, decision_form, duration_of, payload_of, print_decision, shown, time_of
from placet.client.explain import Faster
from placet.client.past import GONE
from placet.schemas.decision import Conflict, Decision, First, Outcome, Reason
from placet.schemas.definition.field_types import Field
from placet.schemas.messages import Kind

FIELDS = {
    "count": Field.model_validate("long"),
    "share": Field.model_validate("double | null"),
    "price": Field.model_validate({"type": "decimal", "precision": 9, "scale": 2}),
    "at": Field.model_validate("timestamp"),
    "name": Field.model_validate("string"),
    "shares": Field.model_validate({"type": "array", "items": "double"}),
    "times": Field.model_validate({"type": "map", "values": "timestamp"}),
}
COMMANDS = [("signal",), ("propose",), ("state", "get"), ("history",), ("decisions", "tail"), ("explain",)]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_an_example_and_its_exit_codes(command: tuple[str, ...], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert f"Example:  placet {' '.join(command)}" in shown.output
    assert "Exit code: " in shown.output
    assert "--output" in shown.output


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("count", "5", 5),
        ("share", "5", 5.0),
        ("share", "0.5", 0.5),
        ("share", "null", None),
        ("price", "19.90", Decimal("19.90")),
        ("price", '"19.90"', Decimal("19.90")),
        ("price", "19", Decimal(19)),
        ("at", '"1970-01-01T00:00:01Z"', 1000),
        ("at", '"1970-01-01T01:00:01+01:00"', 1000),
        ("at", "1000", 1000),
        ("shares", "[1, 0.5]", [1.0, 0.5]),
        ("times", '{"a": "1970-01-01T00:00:01Z", "b": 2}', {"a": 1000, "b": 2}),
    ],
)
def test_payloads_become_values_of_their_fields(name: str, written: str, value: object) -> None:
    (found,) = payload_of(f'{{"{name}": {written}}}', FIELDS).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("written", "value"),
    [('{"at": "noon"}', "noon"), ('{"price": "much"}', "much"), ('{"count": true}', True), ('{"other": 0.5}', 0.5)],
)
def test_what_does_not_fit_is_left_for_the_codec_to_name(written: str, value: object) -> None:
    (found,) = payload_of(written, FIELDS).values()
    assert found == value


def test_payloads_come_from_stdin_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"count": 7}'))
    assert payload_of("-", FIELDS) == {"count": 7}
    assert payload_of("", FIELDS) == {}


@pytest.mark.parametrize("written", ["{", "[1]", "5"])
def test_what_is_no_object_is_a_usage_error(written: str) -> None:
    with pytest.raises(typer.BadParameter, match="JSON"):
        payload_of(written, FIELDS)


def test_times_and_durations() -> None:
    assert time_of("2026-01-01T00:00:00Z") == 1_767_225_600_000
    assert time_of("-5") == -5
    for wrong in ("2026-01-01", "2026-01-01T00:00:00", "soon"):
        with pytest.raises(typer.BadParameter, match="is no time"):
            time_of(wrong)
    assert duration_of(None) is None
    found = duration_of("90s")
    assert found is not None
    assert found.total_seconds() == 90
    with pytest.raises(typer.BadParameter, match="is no duration"):
        duration_of("soon")


def decision(outcome: Outcome, reason: Reason, **more: Any) -> Decision:
    return Decision(
        outcome, reason, Kind.PROPOSAL, "hold", "p-1", "o-1", "key:k", b"", outcome is Outcome.ACCEPTED, 1, 2, 7,
        "open", "held", **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (decision(Outcome.ACCEPTED, Reason.NONE), "ACCEPTED  hold of o-1 (p-1): version 2, held\n"),
        (
            decision(Outcome.DUPLICATE, Reason.REPEATED, first=First("p-0", 2, 5)),
            "DUPLICATE  hold of o-1 (p-1): applied before, by p-0 at version 2\n",
        ),
        (
            decision(Outcome.REFUSED, Reason.STALE, detail="based on 1", conflicts=(Conflict(2, ("note", "status")),)),
            (
                "REFUSED  STALE  hold of o-1 (p-1)\n  based on 1\n  version 2 changed note, status\n"
                "  try again? yes, after reading and thinking again. Read the state again and think again.\n"
            ),
        ),
        (
            replace(decision(Outcome.REFUSED, Reason.ILLEGAL_TRANSITION), version_before=0),
            (
                "REFUSED  ILLEGAL_TRANSITION  hold of o-1 (p-1)\n"
                "  try again? yes, after reading and thinking again. No entity `o-1` is known: is the id right?\n"
            ),
        ),
    ],
)
def test_decisions_in_words(made: Decision, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_decision(made, OutputForm.TEXT)
    assert capsys.readouterr().out == shown


def test_a_decision_as_json_has_every_part_by_name() -> None:
    form = decision_form(decision(Outcome.REFUSED, Reason.DEDUP_KEY_REUSED, first=First("p-0", 2, 5)))
    assert (form["outcome"], form["reason"], form["retry"], form["applied"]) == (
        "REFUSED",
        "DEDUP_KEY_REUSED",
        "NEVER",
        False,
    )
    assert form["first"] == {"input_id": "p-0", "version": 2, "log_time": 5}


def test_metadata_is_written_as_pairs() -> None:
    assert _pairs(["run=7", "note=a=b", "empty="]) == {"run": "7", "note": "a=b", "empty": ""}
    for wrong in ("run", "=7"):
        with pytest.raises(typer.BadParameter, match="write NAME=VALUE"):
            _pairs(["run=7", wrong])


def test_what_was_before_is_left_out_where_the_log_has_let_go_of_it() -> None:
    assert changes_form({"note": (GONE, "x"), "total": (None, 5)}) == {
        "note": {"after": "x"},
        "total": {"before": None, "after": 5},
    }
    assert shown(GONE) == "?"
    gone = Faster(4, str(GONE.value), "", "", {"by": (GONE, GONE), "note": (GONE, GONE)})
    assert _commit_lines(gone) == ["  commit     version 4 changed by, note: not on the log any more"]
