"""A payload is checked once: what the contract's reader lets through and no check refuses is of the field's type."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from placet.definitions import parse_definition
from placet.processors.payloads import payload_check
from placet.schemas.avro.schema import parse_schema
from placet.schemas.avro.writer import RecordWriter
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts, payload_record
from placet.schemas.definition.field_types import accepts
from placet.schemas.errors import DecodeError
from placet.schemas.messages import Kind, Message
from tests.unit.test_machine import GOOD, PAYLOAD

DEFINITION = parse_definition(PAYLOAD)
FIELDS = DEFINITION.signals["scanned"].payload
CODEC = Codec(DEFINITION)
WRITE = RecordWriter(parse_schema(contracts(DEFINITION).signal)).encoded
HEAD = CODEC.encode_message(Message(Kind.SIGNAL, "scanned", "s-1", "p-1", GOOD, 1, 1))[:10]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
doubles = st.floats()
payloads = st.fixed_dictionaries(
    {
        "kind": st.sampled_from("abc") | texts,
        "count": st.integers(-(2**31), 2**31 - 1),
        "total": st.integers(-(2**63), 2**63 - 1),
        "ratio": doubles,
        "ok": st.booleans(),
        "at": st.integers(-(2**63), 2**63 - 1),
        "price": st.decimals("-999.99", "999.99", places=2),
        "tags": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "sizes": st.dictionaries(texts, doubles, max_size=3),
        "note": st.none() | texts,
    }
)


@settings(max_examples=2_000, deadline=None, derandomize=True)
@given(payloads, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=2))
def test_what_is_read_and_not_refused_is_of_its_field(payload: dict[str, Any], hits: list[tuple[float, int]]) -> None:
    choice = (payload_record("signal", DEFINITION.entity, "scanned"), payload)
    body = bytearray(
        WRITE({"signal_id": "s-1", "entity_id": "p-1", "name": "scanned", "source": "", "dedup_key": None,
               "caused_by": None, "event_time": 1, "issued_at": 1, "payload": choice})
    )  # fmt: skip
    for place, byte in hits:
        body[int(place * len(body))] = byte
    try:
        read = CODEC.decode(Kind.SIGNAL, HEAD + bytes(body)).payload
    except DecodeError:
        return
    assert list(read) == list(FIELDS)
    fits = all(accepts(field)(read[name]) for name, field in FIELDS.items())
    assert (payload_check(FIELDS)(read) == "") == fits
