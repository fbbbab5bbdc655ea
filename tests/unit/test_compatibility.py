"""Compatibility: what a new version may change, what it may not, and that the sentence names the place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from placet.cli.schemas import app
from placet.schemas.avro.schema import Record, parse_schema
from placet.schemas.codec.compatibility import Finding, Level, check, check_all, level_of
from placet.schemas.codec.contracts import contracts
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import DecodeError, SettingsError
from tests.golden import samples

TIMESTAMP = {"type": "long", "logicalType": "timestamp-millis"}


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def record(*fields: dict[str, Any], name: str = "n.R") -> Record:
    return parse_schema({"type": "record", "name": name, "fields": list(fields)})


def column(kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": "x", "type": kind, **more}


def paths(found: list[Finding], *, breaks: bool = True) -> list[str]:
    return [finding.path for finding in found if finding.breaks is breaks]


NESTED = {"type": "record", "name": "n.I", "fields": [{"name": "y", "type": "int"}]}
BOTH = {"type": "record", "name": "n.I", "fields": [*NESTED["fields"], {"name": "z", "type": "int"}]}


@pytest.mark.parametrize(
    ("old", "new", "backward", "forward"),
    [
        ([column("int")], [column("int")], True, True),
        ([], [column("int")], False, True),
        ([], [column("int", default=0)], True, True),
        ([], [column(["null", "int"], default=None)], True, True),
        ([column("int")], [], True, False),
        ([column("int", default=0)], [], True, True),
        ([column("int")], [column("long")], True, False),
        ([column("int")], [column("double")], True, False),
        ([column("long")], [column("string")], False, False),
        ([column("int")], [column(["null", "int"])], True, False),
        ([column(["null", "int"])], [column(["int", "null"])], True, True),
        ([column("long")], [column(TIMESTAMP)], False, False),
        ([column(decimal(10, 2))], [column(decimal(10, 3))], False, False),
        ([column(decimal(10, 2))], [column(decimal(12, 2))], False, False),
        ([column(decimal(10, 2))], [column("bytes")], False, False),
        (
            [column({"type": "array", "items": TIMESTAMP})],
            [column({"type": "array", "items": "long"})],
            False,
            False,
        ),
        ([column({"type": "map", "values": "int"})], [column({"type": "map", "values": "long"})], True, False),
        ([column({"type": "array", "items": "int"})], [column({"type": "map", "values": "int"})], False, False),
        ([column(["null", NESTED])], [column(["null", BOTH])], False, True),
        ([column({"type": "array", "items": BOTH})], [column({"type": "array", "items": NESTED})], True, False),
    ],
)
def test_who_can_read_whom(old: list[Any], new: list[Any], backward: bool, forward: bool) -> None:
    assert (check(record(*old), record(*new), Level.BACKWARD) == []) is backward
    assert (check(record(*new), record(*old), Level.BACKWARD) == []) is forward
    assert (check(record(*old), record(*new), Level.FULL) == []) is (backward and forward)


def test_a_finding_names_the_column_and_says_what_to_do() -> None:
    (found,) = check(record(column(decimal(10, 2))), record(column(decimal(10, 4))), Level.FULL)
    assert found.path == "n.R.x"
    assert "decimal(10, 2) was written, and can't be read as decimal(10, 4)" in found.sentence
    assert "another name" in found.sentence


def test_a_changed_default_is_told_and_breaks_nothing() -> None:
    found = check(record(column("int", default=0)), record(column("int", default=1)), Level.FULL)
    assert paths(found) == []
    assert paths(found, breaks=False) == ["n.R.x"]
    assert "its default was 0 and is 1" in found[0].sentence


def test_a_record_keeps_its_name() -> None:
    assert paths(check(record(name="n.A"), record(name="n.B"), Level.BACKWARD)) == ["n.B"]


def test_inputs_are_read_backward_the_rest_by_whoever_comes() -> None:
    levels = {record.name.rpartition(".")[2]: level_of(record) for record in version().values()}
    assert levels == {"Signal": Level.BACKWARD, "Proposal": Level.BACKWARD, "Change": Level.FULL}


# Definitions ----------------------------------------------------------------------------------------------------------


def changed(**sections: Any) -> Definition:
    return parse_definition(json.dumps({**samples.DEFINITION.written(), **sections}))


def version(definition: Definition = samples.DEFINITION) -> dict[str, Record]:
    records = map(parse_schema, contracts(definition))
    return {record.name: record for record in records}


def fields(**changes: Any) -> dict[str, Any]:
    return {"fields": {**samples.DEFINITION.written()["fields"], **changes}}


def without(section: str, name: str) -> dict[str, Any]:
    written = samples.DEFINITION.written()[section]
    return {section: {key: value for key, value in written.items() if key != name}}


def new_proposal(**payload: Any) -> dict[str, Any]:
    proposals = samples.DEFINITION.written()["proposals"]
    return {"proposals": {**proposals, "turn": {"payload": payload, "transitions": [{"from": ["accepted"]}]}}}


@pytest.mark.parametrize(
    "definition",
    [
        changed(version=2),
        changed(version=2, **fields(extra="int | null")),
        changed(version=2, **fields(extra={"type": "int", "default": 1})),
        changed(version=2, **new_proposal(by="int")),
        changed(version=2, statuses=["accepted", "in_transit", "lost", "found"]),
    ],
    ids=["nothing", "optional field", "field with default", "proposal", "status"],
)
def test_what_a_new_version_may_add(definition: Definition) -> None:
    assert check_all([version(), version(definition)]) == []


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (samples.DEFINITION, changed(**without("proposals", "give_up")), ["placet.parcel.Proposal.payload"]),
        (
            changed(**new_proposal(by="int")),
            changed(**new_proposal(by="int", at="int")),
            ["placet.parcel.Proposal.payload.Turn.at"],
        ),
        (
            changed(**new_proposal(by="int | null")),
            changed(**new_proposal(by="int")),
            ["placet.parcel.Proposal.payload.Turn.by"],
        ),
        (changed(**fields(extra="int | null")), changed(**fields(extra="long | null")), ["placet.parcel.Change.extra"]),
        (
            changed(**fields(extra={"type": "timestamp | null"})),
            changed(**fields(extra={"type": "long | null"})),
            ["placet.parcel.Change.extra"],
        ),
    ],
    ids=["name gone", "field without default", "no longer optional", "widened state", "other logical type"],
)
def test_what_a_new_version_may_not_change(old: Definition, new: Definition, where: list[str]) -> None:
    assert paths(check_all([version(old), version(new)])) == where


def test_proposals_may_come_to_a_definition_that_had_none() -> None:
    assert check_all([version(changed(proposals={})), version()]) == []


def test_all_earlier_versions_count_not_only_the_last() -> None:
    first = version(changed(**fields(extra="long | null")))
    second, third = version(changed(version=2)), version(changed(version=3, **fields(extra="string | null")))
    assert check_all([second, third]) == []
    assert paths(check_all([first, second, third])) == ["placet.parcel.Change.extra"]


def test_two_entity_types_have_nothing_to_compare() -> None:
    with pytest.raises(DecodeError, match="nothing in common"):
        check_all([version(), version(changed(entity="box"))])


# The command ----------------------------------------------------------------------------------------------------------

Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def file_of(folder: Path, name: str, definition: Definition) -> Path:
    path = folder / name
    path.write_text(definition.document, encoding="utf-8")
    return path


def test_check_says_compatible_and_exits_with_0(run: Run, tmp_path: Path) -> None:
    old, new = file_of(tmp_path, "1.yaml", samples.DEFINITION), file_of(tmp_path, "2.yaml", changed(version=2))
    done = run("check", old, new)
    assert (done.exit_code, done.output.strip()) == (0, "compatible")


def test_check_lists_what_breaks_and_exits_with_1(run: Run, tmp_path: Path) -> None:
    old = file_of(tmp_path, "1.yaml", samples.DEFINITION)
    new = file_of(tmp_path, "2.yaml", changed(version=2, **without("proposals", "give_up")))
    done = run("check", old, new)
    assert done.exit_code == 1
    assert "placet.parcel.Proposal.payload" in done.output
    assert done.output.rstrip().endswith("not compatible")
    found = json.loads(run("check", old, new, "--output", "json").output)
    assert found["compatible"] is False
    assert found["findings"][0]["path"] == "placet.parcel.Proposal.payload"


def test_check_takes_exported_folders_and_single_schemas(run: Run, tmp_path: Path) -> None:
    old = file_of(tmp_path, "1.yaml", samples.DEFINITION)
    exported = run("export", old, "--out", tmp_path / "schemas")
    assert exported.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "schemas").iterdir()) == [
        "control.avsc",
        "dead_letter.avsc",
        "decision.avsc",
        "ledger.avsc",
        "ledger_windows.avsc",
        "parcel.change.avsc",
        "parcel.proposal.avsc",
        "parcel.signal.avsc",
    ]
    assert run("check", tmp_path / "schemas", old).exit_code == 0
    assert run("check", *[tmp_path / "schemas" / "parcel.change.avsc"] * 2).exit_code == 0


def test_check_needs_two_versions(run: Run, tmp_path: Path) -> None:
    assert run("check", file_of(tmp_path, "1.yaml", samples.DEFINITION)).exit_code == 2


@pytest.mark.parametrize("content", ["{", "[1]", '"int"'])
def test_check_names_a_file_that_is_no_schema(run: Run, tmp_path: Path, content: str) -> None:
    bad = tmp_path / "bad.avsc"
    bad.write_text(content, encoding="utf-8")
    done = run("check", bad, bad)
    assert isinstance(done.exception, SettingsError)
    assert "bad.avsc" in str(done.exception)


def test_check_refuses_an_empty_folder(run: Run, tmp_path: Path) -> None:
    done = run("check", tmp_path, tmp_path)
    assert isinstance(done.exception, SettingsError)
    assert "no .avsc files" in str(done.exception)


def test_export_says_where_it_can_not_write(run: Run, tmp_path: Path) -> None:
    path = file_of(tmp_path, "1.yaml", samples.DEFINITION)
    done = run("export", path, "--out", path)
    assert isinstance(done.exception, SettingsError)
    assert "can't be written" in str(done.exception)
