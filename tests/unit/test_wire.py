"""Framing: the heads are those of the specifications, and a record's first byte says which framing it has."""

from __future__ import annotations

import json

import pytest

from placet.schemas.avro.schema import fingerprint, parse_schema
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import FIXED, Schema, contracts
from placet.schemas.codec.wire import SINGLE_OBJECT, Confluent, confluent_head, head_size, single_object_head
from placet.schemas.errors import DecodeError, SettingsError, UnknownSchema
from placet.schemas.messages import Kind
from tests.golden import oracle, samples

CONTRACTS = contracts(samples.DEFINITION)


def rabin(data: bytes) -> int:
    """CRC-64-AVRO as the Avro 1.12 specification writes it down, in Java."""
    empty = 0xC15D213AA4D7A795
    table = []
    for byte in range(256):
        found = byte
        for _ in range(8):
            found = (found >> 1) ^ (empty & -(found & 1))
        table.append(found)
    crc = empty
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc


class Shelf:
    """A registry that counts how often it is asked."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.asked: list[int] = []

    def id_of(self, role: str, schema: str) -> int:
        for known, other in self.texts.items():
            if other == schema:
                return known
        raise SettingsError(f"{role} is not registered")

    def text_of(self, _role: str, schema_id: int) -> str:
        self.asked.append(schema_id)
        if schema_id not in self.texts:
            raise UnknownSchema(f"no schema {schema_id}")
        return self.texts[schema_id]

    def put(self, *schemas: Schema) -> None:
        for schema in schemas:
            self.texts[len(self.texts) + 1] = json.dumps(schema)

    @property
    def wire(self) -> Confluent:
        return Confluent(self.id_of, self.text_of)


def full_shelf() -> Shelf:
    shelf = Shelf()
    shelf.put(*CONTRACTS, FIXED["decision"], FIXED["ledger"])
    return shelf


def test_the_fingerprint_is_crc_64_avro_of_the_canonical_form_little_endian() -> None:
    record = parse_schema({"type": "record", "name": "n.R", "doc": "x", "fields": [{"name": "a", "type": "int"}]})
    canonical = b'{"name":"n.R","type":"record","fields":[{"name":"a","type":"int"}]}'
    assert fingerprint(record) == rabin(canonical).to_bytes(8, "little")
    assert rabin(b'"int"') == 0x7275D51A3F395C8F  # from the test suite of Avro, share/test/data/schema-tests.txt


def test_docs_defaults_and_logical_types_leave_the_fingerprint_as_it_is() -> None:
    bare = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
    dressed = {
        "type": "record",
        "name": "R",
        "doc": "d",
        "fields": [{"name": "a", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 1}],
    }
    assert single_object_head(json.dumps(bare)) == single_object_head(json.dumps(dressed))


def test_single_object_framing_is_c3_01_and_the_fingerprint() -> None:
    value = Codec(samples.DEFINITION).encode_message(samples.SCANNED)
    assert value[:10] == b"\xc3\x01" + fingerprint(parse_schema(CONTRACTS.signal))


@pytest.mark.parametrize(
    ("schema_id", "head"), [(1, "0000000001"), (0x01020304, "0001020304"), (2**32 - 1, "00ffffffff")]
)
def test_registry_framing_is_a_zero_and_the_id_big_endian(schema_id: int, head: str) -> None:
    assert confluent_head(schema_id).hex() == head
    assert head_size(confluent_head(schema_id)) == 5


def test_with_a_registry_records_carry_its_ids_and_nobody_is_asked_for_our_own() -> None:
    shelf = full_shelf()
    codec = Codec(samples.DEFINITION, shelf.wire)
    value = codec.encode_message(samples.RE_ROUTED)
    assert value[:5] == confluent_head(2)
    assert codec.decode(Kind.PROPOSAL, value) == samples.RE_ROUTED
    assert codec.encode_decision(samples.STALE, samples.AT)[:5] == confluent_head(4)
    assert codec.encode_change(samples.CHANGE)[0][:5] == confluent_head(3)
    assert shelf.asked == []


def test_a_schema_that_is_not_registered_is_said_at_start() -> None:
    with pytest.raises(SettingsError, match="signal is not registered"):
        Codec(samples.DEFINITION, Shelf().wire)


def test_with_a_registry_both_framings_are_read() -> None:
    codec = Codec(samples.DEFINITION, full_shelf().wire)
    for other in (Codec(samples.DEFINITION), codec):
        assert codec.decode(Kind.SIGNAL, other.encode_message(samples.SCANNED)) == samples.SCANNED


def test_without_a_registry_its_framing_is_an_unknown_schema() -> None:
    value = Codec(samples.DEFINITION, full_shelf().wire).encode_message(samples.SCANNED)
    with pytest.raises(UnknownSchema, match="0000000001"):
        Codec(samples.DEFINITION).decode(Kind.SIGNAL, value)


def test_the_schema_of_a_foreign_id_is_asked_for_once() -> None:
    shelf = full_shelf()
    codec = Codec(samples.DEFINITION, shelf.wire)
    foreign = {**CONTRACTS.signal, "fields": CONTRACTS.signal["fields"][::-1]}  # as a generator of another language may
    shelf.put(foreign)
    body = _reversed_body()
    for _ in range(3):
        assert codec.decode(Kind.SIGNAL, confluent_head(6) + body) == samples.SCANNED
    assert shelf.asked == [6]


def test_an_id_of_another_contract_is_refused_and_asked_for_once() -> None:
    shelf = full_shelf()
    codec = Codec(samples.DEFINITION, shelf.wire)
    shelf.put({"type": "record", "name": "Other", "fields": []}, {"type": "string"})
    for schema_id in (6, 6, 7, 7):
        with pytest.raises(DecodeError):
            codec.decode(Kind.SIGNAL, confluent_head(schema_id) + b"\x00")
    assert shelf.asked == [6, 7]


def test_an_id_of_another_role_is_refused_without_asking() -> None:
    shelf = full_shelf()
    codec = Codec(samples.DEFINITION, shelf.wire)
    with pytest.raises(DecodeError, match="a decision record stands where a signal is expected"):
        codec.decode(Kind.SIGNAL, codec.encode_decision(samples.STALE, samples.AT))
    assert shelf.asked == []


def test_an_unknown_id_is_asked_for_again_as_it_may_be_registered_by_then() -> None:
    shelf = full_shelf()
    codec = Codec(samples.DEFINITION, shelf.wire)
    value = confluent_head(6) + _reversed_body()
    with pytest.raises(UnknownSchema):
        codec.decode(Kind.SIGNAL, value)
    shelf.put({**CONTRACTS.signal, "fields": CONTRACTS.signal["fields"][::-1]})
    assert codec.decode(Kind.SIGNAL, value) == samples.SCANNED


def test_a_learned_schema_is_known_by_its_id_too() -> None:
    shelf = full_shelf()
    foreign = {**CONTRACTS.signal, "fields": CONTRACTS.signal["fields"][::-1]}
    shelf.put(foreign)
    codec = Codec(samples.DEFINITION, shelf.wire)
    codec.learn(foreign)
    assert codec.decode(Kind.SIGNAL, confluent_head(6) + _reversed_body()) == samples.SCANNED
    assert shelf.asked == []


def test_single_object_framing_knows_nobody_to_ask() -> None:
    assert SINGLE_OBJECT.schema_of("signal", b"\xc3\x01" + b"\x00" * 8) is None


def _reversed_body() -> bytes:
    """The sample signal with its columns in the opposite order, as fastavro writes it."""
    body = Codec(samples.DEFINITION).encode_message(samples.SCANNED)[10:]
    value, _ = oracle.read(CONTRACTS.signal, body)
    return oracle.write({**CONTRACTS.signal, "fields": CONTRACTS.signal["fields"][::-1]}, value)
