"""The shell's words: payloads, times and durations as people write them, and what every command says of itself."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from placet.cli import app
from placet.cli.decisions import _print_line
from placet.cli.explain import _commit_lines
from placet.cli.output import OutputForm
from placet.cli.propose import _pairs
from placet.cli.shared import (
    changes_form,
    decision_form,
    decision_line,
    duration_of,
    moment_of,
    payload_of,
    print_decision,
    shown,
    time_of,
)
from placet.cli.state import state_text, step_text
from placet.client.archive import ArchivedDecision
from placet.client.compose import Composer
from placet.client.errors import NoOccasion
from placet.client.explain import Faster
from placet.client.past import GONE, steps
from placet.client.snapshot import Snapshot
from placet.processors.ladder import refuse_undecoded
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Conflict, Coordinates, Decision, First, Outcome, Reason
from placet.schemas.definition.field_types import Field
from placet.schemas.definition.model import Definition
from placet.schemas.messages import Kind
from placet.schemas.state import Change, EntityState

FIELDS = {
    "count": Field.model_validate("long"),
    "share": Field.model_validate("double | null"),
    "price": Field.model_validate({"type": "decimal", "precision": 9, "scale": 2}),
    "at": Field.model_validate("timestamp"),
    "name": Field.model_validate("string"),
    "shares": Field.model_validate({"type": "array", "items": "double"}),
    "times": Field.model_validate({"type": "map", "values": "timestamp"}),
}
COMMANDS = [
    ("signal",),
    ("propose",),
    ("state", "get"),
    ("history",),
    ("timers", "list"),
    ("decisions", "tail"),
    ("decisions", "dead-letters"),
    ("explain",),
]


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
    assert time_of("1767225600000") == 1_767_225_600_000
    assert moment_of("1999-01-01T00:00:00Z") == datetime(1999, 1, 1, tzinfo=UTC), "seconds are not meant"
    for read in (time_of, moment_of):
        for implausible, says in (("-5", "Is it in seconds"), ("1767225600", "write it as 1999-12-31T12:00:00Z")):
            with pytest.raises(typer.BadParameter, match=f"{implausible} is no time: .*{says}"):
                read(implausible)
        with pytest.raises(typer.BadParameter, match="Is it in micro- or nanoseconds"):
            read("1767225600000000000")
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


def test_what_would_be_decided_does_not_read_as_if_it_were(capsys: pytest.CaptureFixture[str]) -> None:
    nothing_sent = "  only the rules were evaluated, on the state of this moment; nothing was sent\n"
    foreseen = replace(decision(Outcome.ACCEPTED, Reason.NONE), input_id="")
    print_decision(foreseen, OutputForm.TEXT, dry_run=True)
    assert capsys.readouterr().out == f"would be ACCEPTED  hold of o-1: version 2, held\n{nothing_sent}"
    refused = replace(decision(Outcome.REFUSED, Reason.GUARD_FAILED, detail="`false` is false"), input_id="")
    print_decision(refused, OutputForm.TEXT, dry_run=True)
    shown = capsys.readouterr().out
    assert shown.startswith("would be REFUSED  GUARD_FAILED  hold of o-1\n")
    assert shown.endswith(nothing_sent)
    print_decision(foreseen, OutputForm.JSON, dry_run=True)
    assert json.loads(capsys.readouterr().out)["dry_run"] is True


@pytest.mark.parametrize(
    ("reason", "detail", "shown"),
    [
        (
            Reason.SUPERSEDED,
            "event_time 1767225540000 is older than the applied 1767225600000",
            "event_time 2025-12-31T23:59:00.000Z is older than the applied 2026-01-01T00:00:00.000Z",
        ),
        (
            Reason.EXPIRED,
            "valid until 1767225600000, decided at 1767225690000: 30000 ms late",
            "valid until 2026-01-01T00:00:00.000Z, decided at 2026-01-01T00:01:30.000Z: 30000 ms late",
        ),
        (
            Reason.STALE,
            "based on incarnation 0, the entity is in 1767225600000: it was created",
            "based on incarnation 0, the entity is in 2026-01-01T00:00:00.000Z: it was created",
        ),
        (Reason.GUARD_FAILED, "`payload.card == 1767225600000` is false", "`payload.card == 1767225600000` is false"),
    ],
)
def test_times_in_a_detail_are_shown_as_times(
    reason: Reason, detail: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_decision(decision(Outcome.REFUSED, reason, detail=detail), OutputForm.TEXT)
    assert capsys.readouterr().out.splitlines()[1] == f"  {shown}"


def test_a_decision_on_what_has_no_id_names_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    at = Coordinates("placet.pet.signals", 2, 17, 0, 1_767_225_600_000, 1, 1, 0, b"", 0)
    unread = refuse_undecoded(Kind.SIGNAL, Reason.UNDECODABLE, "no Avro", entity_id="dog-1")
    line = "2026-01-01T00:00:00.000Z  REFUSED   UNDECODABLE        a signal of"
    assert decision_line(ArchivedDecision(unread, at)) == f"{line} dog-1 (placet.pet.signals-2@17)"
    assert decision_line(ArchivedDecision(replace(unread, entity_id=""), at)).endswith(
        "a signal of no entity (placet.pet.signals-2@17)"
    )
    _print_line(ArchivedDecision(unread, at), OutputForm.JSON)
    found = json.loads(capsys.readouterr().out)
    assert found["input"] == {"topic": "placet.pet.signals", "partition": 2, "offset": 17}


def test_times_among_the_fields_are_shown_as_times() -> None:
    fields = {"at": 1_767_225_600_000, "count": 1_767_225_600_000, "times": {"a": 0}}
    state = EntityState(1, 1_767_225_600_000, "open", fields, {"at": 1})
    change = Change(
        "o-1", state, Kind.SIGNAL, "opened", "s-1", "", b"", 0, 0, 1_767_225_660_000, "t", 0, 1, 1, b"", "me"
    )
    found = Snapshot("o-1", state, change)
    assert state_text(found, FIELDS).splitlines() == [
        "o-1  open  version 1",
        "  at: 2026-01-01T00:00:00.000Z",
        "  count: 1767225600000",
        "  times: {a: 1970-01-01T00:00:00.000Z}",
        "  since 2026-01-01T00:01:00.000Z: signal opened (s-1) by me",
    ]
    [step] = steps([found], {"at": None})
    assert step_text(step, FIELDS).splitlines()[1] == "      at: null -> 2026-01-01T00:00:00.000Z"
    [_, line] = _commit_lines(Faster(2, "x", "", "", {"at": (GONE, 0)}), FIELDS)
    assert line == "             at: ? -> 1970-01-01T00:00:00.000Z"


RULES = """
entity: order
version: 1
statuses: [open, held]
signals:
  opened: {from: absent, to: open}
proposals:
  hold: {from: absent, to: held}
"""


class ClientWithoutKafka:
    """What `placet propose` asks of a client, of an entity never seen."""

    def __init__(self, definition: Definition, **_: object) -> None:
        self.definition = definition
        self._composer = Composer(definition, Codec(definition))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, entity_id: str, **_: object) -> Snapshot:
        return Snapshot(entity_id, EntityState(), read_at=0)

    def would_accept(self, seen: Snapshot, name: str, payload: dict[str, Any]) -> Decision:
        return self._composer.would_accept(seen, name, payload, 0)

    def propose(self, seen: Snapshot, name: str, payload: dict[str, Any], **said: Any) -> None:
        self._composer.proposal(seen, name, payload, 0, proposal_id="p-1", dedup_key=said["dedup_key"])


@pytest.fixture
def propose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`placet propose o-1 hold` without Kafka."""
    monkeypatch.setattr("placet.cli.propose.Client", ClientWithoutKafka)
    (tmp_path / "order.yaml").write_text(RULES)
    where = ["-d", str(tmp_path / "order.yaml")]
    return lambda *more: CliRunner().invoke(app, ["propose", "o-1", "hold", *where, *more])


def test_an_occasion_that_is_missing_is_asked_for_by_the_names_of_the_options(propose: Callable[..., Result]) -> None:
    assert "Give dedup_key= (" in str(NoOccasion("hold"))
    error = propose().exception
    assert isinstance(error, NoOccasion)
    assert "Give --dedup-key (what it is about, such as a ticket's id) or --caused-by (" in str(error)


def test_a_dry_run_says_that_it_is_one(propose: Callable[..., Result]) -> None:
    shown = propose("--dry-run")
    assert (shown.exit_code, shown.output.splitlines()[0]) == (0, "would be ACCEPTED  hold of o-1: version 1, held")


def test_of_a_base_version_only_the_caller_knows_when_it_was_read(
    propose: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "order.yaml").write_text(
        RULES.replace("{from: absent, to: held}", "{max_state_age: 30s, from: absent, to: held}")
    )

    def said(*more: str) -> str:
        return propose("--dry-run", *more).output.split("  hold of")[0]

    assert said() == "would be ACCEPTED"
    assert said("--base-version", "0").startswith("would be REFUSED")
    assert said("--base-version", "0", "--read-at", "1970-01-01T00:00:00Z") == "would be ACCEPTED"


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
    assert _commit_lines(gone, {}) == ["  commit     version 4 changed by, note: not on the log any more"]
