"""The codec against fastavro: equal bytes, equal values, equal resolution; and against bytes that nobody meant."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from placet.schemas.avro.reader import RecordReader, Unresolvable
from placet.schemas.avro.schema import parse_schema
from placet.schemas.avro.writer import RecordWriter
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.control import decode_control
from placet.schemas.codec.dead_letter import decode_dead_letter
from placet.schemas.codec.state_header import state_header
from placet.schemas.errors import DecodeError
from placet.schemas.memory import Applied, Armed
from placet.schemas.messages import Kind, Message, Priority
from placet.schemas.state import EntityState
from tests.golden import oracle, samples

EXAMPLES = int(os.environ.get("PLACET_CODEC_EXAMPLES", "300"))
many = settings(max_examples=EXAMPLES, deadline=2000, derandomize=True)

CODEC = Codec(samples.DEFINITION)
CONTRACTS = contracts(samples.DEFINITION)
HEAD = 10

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
longs = st.integers(-(2**63), 2**63 - 1)
ints = st.integers(-(2**31), 2**31 - 1)
doubles = st.floats(allow_nan=False, allow_infinity=False)
digests = st.binary(max_size=20)
fees = st.decimals(Decimal("-99999999.99"), Decimal("99999999.99"), places=2)

payloads = st.fixed_dictionaries(
    {
        "place": texts,
        "risk": doubles,
        "fragile": st.booleans(),
        "fee": fees,
        "labels": st.lists(texts, max_size=70),
        "dimensions_mm": st.dictionaries(texts, ints, max_size=70),
        "note": st.none() | texts,
        "due": st.none() | longs,
    }
)
proposals = st.builds(
    Message,
    st.just(Kind.PROPOSAL),
    st.just("re_route_2"),
    texts,
    texts,
    payloads,
    issued := st.shared(longs),
    issued,
    st.none() | texts,
    st.none() | texts,
    st.none() | longs,
    longs,
    st.none() | longs,
    st.sampled_from(Priority),
    texts,
)


@many
@given(proposals, texts, texts, st.dictionaries(texts, texts, max_size=5))
def test_a_message_comes_back_equal_and_has_the_bytes_of_fastavro(
    message: Message, rationale: str, model: str, metadata: dict[str, str]
) -> None:
    value = CODEC.encode_message(message, rationale=rationale, model=model, metadata=metadata)
    assert CODEC.decode(Kind.PROPOSAL, value) == message
    read, size = oracle.read(CONTRACTS.proposal, value[HEAD:])
    assert size == len(value) - HEAD
    assert oracle.write(CONTRACTS.proposal, read) == value[HEAD:]
    assert (read["rationale"], read["model"] or "", read["metadata"]) == (rationale, model, metadata)


fields = st.fixed_dictionaries(
    {
        "place": st.none() | texts,
        "weight_g": st.none() | ints,
        "scans": st.none() | longs,
        "risk": st.none() | doubles,
        "fragile": st.none() | st.booleans(),
        "due": st.none() | longs,
        "fee": st.none() | fees,
        "labels": st.none() | st.lists(texts, max_size=10),
        "dimensions_mm": st.none() | st.dictionaries(texts, ints, max_size=10),
        "note": st.none() | texts,
    }
)
states = st.builds(
    EntityState,
    longs,
    longs,
    texts,
    fields,
    st.dictionaries(texts, longs, max_size=5),
    st.dictionaries(texts, st.builds(Applied, longs, texts, digests, longs, longs), max_size=3),
    longs,
    st.none(),
    st.none() | st.dictionaries(texts, st.builds(Armed, longs, longs), min_size=1, max_size=3),
    st.none() | st.dictionaries(texts, st.dictionaries(texts, st.lists(longs, max_size=6)), min_size=1, max_size=3),
)


@many
@given(states, texts, longs, digests)
def test_a_change_comes_back_equal_and_has_the_bytes_of_fastavro(
    state: EntityState, text: str, number: int, digest: bytes
) -> None:
    change = replace(
        samples.CHANGE, state=state, input_id=text, proposer=text, offset=number, log_time=number, payload_digest=digest
    )
    value, headers = CODEC.encode_change(change)
    assert CODEC.decode_change(value, headers) == change
    read, _ = oracle.read(CONTRACTS.change, value[HEAD:])
    assert oracle.write(CONTRACTS.change, read) == value[HEAD:]


@many
@given(texts, longs, digests, st.lists(texts, max_size=5))
def test_a_decision_comes_back_equal(text: str, number: int, digest: bytes, names: list[str]) -> None:
    decision = replace(
        samples.STALE,
        name=text,
        detail=text * 100,
        payload_digest=digest,
        version_before=number,
        conflicts=(samples.STALE.conflicts[0]._replace(version=number, fields=tuple(names)),),
    )
    at = replace(samples.AT, offset=number, topic=text, definition_digest=digest)
    assert CODEC.decode_decision(CODEC.encode_decision(decision, at)) == (decision, at)


@many
@given(st.dictionaries(texts, longs, max_size=8), st.randoms(use_true_random=False))
def test_equal_states_have_equal_headers(versions: dict[str, int], random: Any) -> None:
    shuffled = list(versions.items())
    random.shuffle(shuffled)
    assert state_header(EntityState(field_versions=versions)) == state_header(
        EntityState(field_versions=dict(shuffled))
    )


# Resolution -----------------------------------------------------------------------------------------------------------

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "int": ints,
    "long": longs,
    "double": doubles,
    "boolean": st.booleans(),
    "bytes": st.binary(max_size=20),
}
PLAIN_DEFAULTS: dict[str, Any] = {
    "string": "d",
    "int": 7,
    "long": 2**40,
    "double": 0.5,
    "boolean": True,
    "bytes": "\xff",
}


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    """A record's column: a scalar, a list or a map of one, perhaps optional, perhaps with a default."""
    scalar = draw(st.sampled_from(sorted(SCALARS)))
    shape: Any = draw(
        st.sampled_from([scalar, scalar, {"type": "array", "items": scalar}, {"type": "map", "values": scalar}])
    )
    default = {"array": [], "map": {}}[shape["type"]] if isinstance(shape, dict) else PLAIN_DEFAULTS[scalar]
    column = {"name": draw(st.sampled_from("abcde"))}
    match draw(st.sampled_from(["plain", "default", "null", "null default", "last null"])):
        case "plain":
            return column | {"type": shape}
        case "default":
            return column | {"type": shape, "default": default}
        case "null":
            return column | {"type": ["null", shape]}
        case "null default":
            return column | {"type": ["null", shape], "default": None}
    return column | {"type": [shape, "null"], "default": default}


def record(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "record", "name": "R", "namespace": "n", "fields": found}


schemas = st.builds(record, st.lists(columns(), min_size=1, max_size=5, unique_by=lambda column: column["name"]))


@st.composite
def values_of(draw: st.DrawFn, shape: Any) -> Any:
    """A value of a column's type."""
    if isinstance(shape, list):
        inner = next(branch for branch in shape if branch != "null")
        return draw(st.none() | values_of(inner))
    if isinstance(shape, str):
        return draw(SCALARS[shape])
    if shape["type"] == "array":
        return draw(st.lists(SCALARS[shape["items"]], max_size=5))
    return draw(st.dictionaries(texts, SCALARS[shape["values"]], max_size=5))


def same(one: Any, other: Any) -> bool:
    """Equal in value and type: 1 is not 1.0, and not True."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (
        one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))
    )


def by_fastavro(writer: Any, body: bytes, reader: Any) -> Any:
    """What fastavro makes of it, or None where it refuses."""
    try:
        return oracle.read(writer, body, reader)[0]
    except Exception:  # noqa: BLE001  it has many, and which one does not matter
        return None


@settings(max_examples=3 * EXAMPLES, deadline=2000, derandomize=True)
@given(schemas, schemas, st.data())
def test_another_schemas_records_are_resolved_as_fastavro_does(writer: Any, reader: Any, data: st.DataObject) -> None:
    values = {column["name"]: data.draw(values_of(column["type"])) for column in writer["fields"]}
    body = RecordWriter(parse_schema(writer)).encoded(values)
    ours = parse_schema(reader)
    expected = by_fastavro(writer, body, reader)
    refused, got = "", None
    try:
        got = RecordReader(parse_schema(writer), ours).values(body, 0)
    except DecodeError as error:
        refused = str(error)
    if got is None:
        # fastavro reads strings as bytes and bytes as strings; here a field keeps its type.
        assert expected is None or "can't be read as" in refused, refused
        return
    assert expected is not None
    for column in reader["fields"]:
        if "bytes" in column["type"] and isinstance(expected[column["name"]], str):
            # fastavro leaves a default of bytes as the schema's text; Avro says that it stands for bytes.
            expected[column["name"]] = expected[column["name"]].encode("latin-1")
    named = dict(zip([column.name for column in ours.columns], got, strict=False))
    assert same(named, expected), (named, expected)


@many
@given(longs)
def test_whole_numbers_become_doubles_as_fastavro_makes_them(number: int) -> None:
    writer = record([{"name": "a", "type": "long"}])
    reader = record([{"name": "a", "type": "double"}])
    body = RecordWriter(parse_schema(writer)).encoded({"a": number})
    assert RecordReader(parse_schema(writer), parse_schema(reader)).values(body, 0)[0] == float(number)


# Bytes that nobody meant ----------------------------------------------------------------------------------------------

VALID = {name: bytes.fromhex(text) for name, text in samples.golden().items()}
HEADERS = CODEC.encode_change(samples.CHANGE)[1]
VALID["change.change"] = CODEC.encode_change(samples.CHANGE)[0]
VALID["change.deletion"] = CODEC.encode_change(samples.DELETION)[0]

DECODERS: dict[str, Callable[[bytes], Any]] = {
    "signal": lambda value: CODEC.decode(Kind.SIGNAL, value),
    "proposal": lambda value: CODEC.decode(Kind.PROPOSAL, value),
    "decision": CODEC.decode_decision,
    "change": lambda value: CODEC.decode_change(value, HEADERS),
    "ledger": CODEC.decode_ledger,
    "ledger_windows": CODEC.decode_ledger,
    "control": decode_control,
    "dead_letter": decode_dead_letter,
}
SCHEMAS = {"signal": CONTRACTS.signal, "proposal": CONTRACTS.proposal}

NASTY = st.sampled_from(
    [b"\x00", b"\x01", b"\x02", b"\x7f", b"\x80", b"\xff", b"\xff" * 9 + b"\x01", b"\x80" * 40, b"\xfe" * 5 + b"\x0f"]
)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, bytes]:
    """A valid record with some of its body's bytes replaced, inserted or cut out."""
    name = draw(st.sampled_from(sorted(VALID)))
    value = bytearray(VALID[name])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(min(HEAD, len(value)), len(value)))
        size = draw(st.integers(0, 3))
        value[at : at + size] = draw(NASTY | st.binary(max_size=6))
    return name.partition(".")[0], bytes(value)


def decoded(role: str, value: bytes) -> Any:
    """What comes out, or None; any exception but DecodeError fails the test."""
    try:
        return DECODERS[role](value)
    except DecodeError:
        return None


@settings(max_examples=5 * EXAMPLES, deadline=2000, derandomize=True)
@given(mutations())
def test_only_decode_errors_come_out_of_mutated_records(mutated: tuple[str, bytes]) -> None:
    role, value = mutated
    got = decoded(role, value)
    if role in SCHEMAS and got is not None:
        # What is accepted, fastavro accepts too, to the last byte, and sees the same.
        read, size = oracle.read(SCHEMAS[role], value[HEAD:])
        assert size == len(value) - HEAD
        assert (read["name"], read["issued_at"]) == (got.name, got.issued_at)
        payload = {**read["payload"][1]}
        if "fee" in payload:
            payload["fee"] = Decimal(int.from_bytes(payload["fee"], "big", signed=True)).scaleb(-2)
        assert same(payload, got.payload)


@settings(max_examples=5 * EXAMPLES, deadline=2000, derandomize=True)
@given(st.sampled_from(sorted(VALID)), st.binary(max_size=200))
@example("decision.stale", b"")
def test_only_decode_errors_come_out_of_random_bytes(name: str, body: bytes) -> None:
    role = name.partition(".")[0]
    decoded(role, body)
    decoded(role, VALID[name][:HEAD] + body)


@many
@given(st.sampled_from(sorted(VALID)), st.integers(0, 40), NASTY)
def test_a_long_run_of_one_byte_costs_no_more_than_its_length(name: str, at: int, byte: bytes) -> None:
    value = VALID[name][: HEAD + at] + byte * (20_000 // len(byte))
    decoded(name.partition(".")[0], value)


SCHEMA_KEYS = ["type", "name", "fields", "items", "values", "default", "logicalType", "precision", "scale", "namespace"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.sampled_from(["record", "array", "map", "long", "null"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(SCHEMA_KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def damaged_schemas(draw: st.DrawFn) -> Any:
    """One of our schemas with one place overwritten."""
    schema = json.loads(json.dumps(draw(st.sampled_from([CONTRACTS.signal, CONTRACTS.proposal, CONTRACTS.change]))))
    place = schema
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.integers(0, 3)) == 0:
            place[key] = draw(json_values)
            return schema
        place = place[key]


@many
@given(damaged_schemas())
def test_only_decode_errors_come_out_of_damaged_schemas(schema: Any) -> None:
    codec = Codec(samples.DEFINITION)
    try:
        codec.learn(schema)
    except DecodeError:
        return
    assert codec.decode(Kind.PROPOSAL, VALID["proposal.re_route_2"]).name == "re_route_2"


def test_an_incompatible_schema_says_which_field() -> None:
    writer, reader = record([{"name": "a", "type": "string"}]), record([{"name": "a", "type": "int"}])
    with pytest.raises(Unresolvable, match="`a`: string can't be read as int"):
        RecordReader(parse_schema(writer), parse_schema(reader))


def test_not_a_number_is_a_double() -> None:
    schema = record([{"name": "a", "type": "double"}])
    (got,) = RecordReader(parse_schema(schema), parse_schema(schema)).values(struct.pack("<d", math.nan), 0)
    assert math.isnan(got)
