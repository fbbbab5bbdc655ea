"""Contracts: what is generated from a definition is pinned, valid Avro, and what readers of every kind can use."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest

from placet.definitions import load_definition
from placet.schemas.avro.schema import fingerprint, parse_schema
from placet.schemas.avro.writer import writer_of
from placet.schemas.codec.contracts import EARLIER, FIXED, Schema, contracts, payload_record
from placet.schemas.codec.control import decode_control
from placet.schemas.codec.wire import single_object_head
from placet.schemas.definition.model import parse_definition
from tests.golden import samples
from tests.unit.control_records import published

EXAMPLES = sorted((Path(__file__).parents[2] / "placet" / "schemas" / "examples").glob("*.yaml"))
CONTRACTS = contracts(samples.DEFINITION)

PINNED = {
    "decision": "b707eef08296ad18",
    "ledger": "0f7fd97488e9f4fa",
    "control": "b1ba92c98f31e669",
    "dead_letter": "cc788e94274aa266",
    "ledger_windows": "273943aa2ae3ea74",
}
"""Fingerprints of the checked-in schemas: a change is a new contract, which old readers have to be taught."""


def columns(schema: Schema) -> dict[str, Any]:
    return {field["name"]: field for field in schema["fields"]}


@pytest.mark.parametrize("name", sorted(FIXED))
def test_a_checked_in_schema_is_what_was_agreed(name: str) -> None:
    assert fingerprint(parse_schema(FIXED[name])).hex() == PINNED[name]


def test_records_of_a_contract_as_it_was_before_are_read() -> None:
    (first,) = EARLIER["control"]
    assert fingerprint(parse_schema(first)).hex() == "69e91462defad64b"
    entry, text = published(samples.DEFINITION), json.dumps(first)
    values = msgspec.structs.asdict(entry)
    del values["base"]
    writer = writer_of(parse_schema(text).columns[0].shape)
    value = single_object_head(text) + writer.encoded(("placet.control.Published", values))
    assert decode_control(value) == entry


@pytest.mark.parametrize("name", sorted(samples.golden_schemas()))
def test_a_generated_schema_is_pinned_to_the_letter(name: str) -> None:
    assert samples.golden_schemas()[name] == (samples.SCHEMAS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [*EXAMPLES, samples.HERE / "parcel.yaml"], ids=lambda path: path.stem)
def test_every_schema_is_valid_avro_for_fastavro_too(path: Path) -> None:
    for schema in (*contracts(load_definition(path)), *FIXED.values()):
        fastavro.parse_schema(schema)
        parse_schema(json.dumps(schema))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_canonical_document_gives_the_same_contracts(path: Path) -> None:
    definition = load_definition(path)
    assert contracts(parse_definition(definition.document)) == contracts(definition)


def test_there_are_no_avro_enums_and_every_field_of_the_state_is_nullable_with_default_null() -> None:
    assert '"enum"' not in json.dumps([*CONTRACTS, *FIXED.values()])
    state = [field for name, field in columns(CONTRACTS.change).items() if not name.startswith("placet_")]
    assert [field["name"] for field in state] == list(samples.DEFINITION.fields)
    assert all(field["type"][0] == "null" and field["default"] is None for field in state)


def test_what_the_ladder_asks_first_stands_before_the_payload() -> None:
    names = list(columns(CONTRACTS.proposal))
    early = {"proposal_id", "entity_id", "name", "dedup_key", "issued_at", "priority", "base_version"}
    assert early <= set(names[: names.index("payload")])
    assert names[:3] == ["proposal_id", "entity_id", "name"]


def test_the_page_says_how_a_name_becomes_a_record() -> None:
    page = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
    examples = re.findall(r"`(\w+)` becomes\s`(\w+)`", page)
    assert len(examples) == 2
    assert [payload_record("signal", "a", name) for name, _ in examples] == [
        f"placet.a.signal.{to}" for _, to in examples
    ]


def test_a_base_version_must_be_said() -> None:
    assert "default" not in columns(CONTRACTS.proposal)["base_version"]


def test_types_of_a_payload() -> None:
    (payload, _) = columns(CONTRACTS.proposal)["payload"]["type"]
    assert (payload["namespace"], payload["name"]) == ("placet.parcel.proposal", "ReRoute_2")
    assert {name: (field["type"], field.get("default", "-")) for name, field in columns(payload).items()} == {
        "place": ("string", "-"),
        "risk": ("double", "-"),
        "fragile": ("boolean", True),
        "fee": ({"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}, "\xff"),
        "labels": ({"type": "array", "items": "string"}, ["urgent"]),
        "dimensions_mm": ({"type": "map", "values": "int"}, "-"),
        "note": (["string", "null"], "none"),
        "due": (["null", {"type": "long", "logicalType": "timestamp-millis"}], None),
    }


def test_a_definition_without_signals_or_proposals_has_contracts_all_the_same() -> None:
    definition = parse_definition(json.dumps({**samples.DEFINITION.written(), "proposals": {}}))
    assert columns(contracts(definition).proposal)["payload"]["type"] == ["null"]
    for schema in contracts(definition):
        fastavro.parse_schema(schema)


def test_no_two_names_share_a_payload_record() -> None:
    names = ["a" + "".join(rest) for size in range(5) for rest in product("ab1_", repeat=size)]
    assert len({payload_record("signal", "e", name) for name in names}) == len(names)
    assert payload_record("signal", "e", "gate_changed") == "placet.e.signal.GateChanged"


def test_every_column_of_the_gate_says_what_it_is() -> None:
    def undocumented(schema: Any) -> list[str]:
        if isinstance(schema, list):
            return [name for item in schema for name in undocumented(item)]
        if not isinstance(schema, dict):
            return []
        own = [field["name"] for field in schema.get("fields", []) if not field.get("doc")]
        return own + [name for field in schema.get("fields", []) for name in undocumented(field["type"])]

    assert [name for schema in FIXED.values() for name in undocumented(schema)] == []
    change = {**CONTRACTS.change, "fields": [f for f in CONTRACTS.change["fields"] if f["name"].startswith("placet_")]}
    assert undocumented(change) == []
