"""The codec: pinned bytes, both ways, other definitions' records, and refusals with a name for whatever is sent."""

from __future__ import annotations

import json
import math
import time
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest

from placet.schemas.avro.scalar_readers import READERS
from placet.schemas.avro.schema import parse_schema
from placet.schemas.avro.writer import encoded_long, encoded_string
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import CONTROL, DEAD_LETTER, DECISION, FIXED, LEDGER, Schema, contracts
from placet.schemas.codec.control import decode_control, encode_control
from placet.schemas.codec.dead_letter import decode_dead_letter, encode_dead_letter
from placet.schemas.codec.inputs import made_message
from placet.schemas.codec.wire import single_object_head
from placet.schemas.decision import Coordinates, Decision, Outcome, Reason
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import DecodeError, InvalidPayload, UnknownSchema
from placet.schemas.ledger import LedgerEntry
from placet.schemas.messages import Kind, Message, Priority
from placet.schemas.state import EntityState
from placet.streams.records import ConsumerRecord
from tests.golden import oracle, samples

CODEC = Codec(samples.DEFINITION)
CONTRACTS = contracts(samples.DEFINITION)
HEAD = 10
MESSAGES = [samples.SCANNED, samples.RE_ROUTED, samples.GIVEN_UP]
DECISIONS = [samples.ACCEPTED, samples.REPEATED, samples.STALE, samples.UNDECODABLE]


def proposal(**changed: Any) -> Message:
    return replace(samples.RE_ROUTED, **changed)


# What is pinned -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(samples.golden()))
def test_the_bytes_of_a_record_are_those_that_lie_in_topics_already(name: str) -> None:
    pinned = json.loads(samples.RECORDS.read_text(encoding="utf-8"))
    assert samples.golden()[name] == pinned.get(name), f"{name}: is the change meant? See tests/golden/samples.py"


def test_no_golden_record_is_forgotten() -> None:
    assert json.loads(samples.RECORDS.read_text(encoding="utf-8")).keys() == samples.golden().keys()


SCHEMAS: dict[str, Schema] = {
    **CONTRACTS._asdict(),
    "decision": DECISION,
    "ledger": LEDGER,
    "control": CONTROL,
    "dead_letter": DEAD_LETTER,
    "ledger_windows": FIXED["ledger_windows"],
}


@pytest.mark.parametrize("name", sorted(samples.golden()))
def test_fastavro_reads_every_record_to_its_end_and_writes_the_same_bytes(name: str) -> None:
    role, body = name.partition(".")[0], bytes.fromhex(samples.golden()[name])[HEAD:]
    value, size = oracle.read(SCHEMAS[role], body)
    assert oracle.write(SCHEMAS[role], value) == body[:size]
    assert role == "change" or size == len(body)


def test_fastavro_sees_the_values_that_were_written() -> None:
    value, _ = oracle.read(CONTRACTS.proposal, CODEC.encode_message(samples.RE_ROUTED, model="m")[HEAD:])
    name, payload = value["payload"]
    assert name == "placet.parcel.proposal.ReRoute_2"
    assert payload["fee"] == b"\xce\x00"  # -12800 in the shortest two's complement, as Java writes it
    assert {**payload, "fee": Decimal("-128.00")} == samples.RE_ROUTED.payload
    assert value["issued_at"] == samples.T
    assert (value["priority"], value["model"], value["base_version"]) == ("low", "m", 17)


# Both ways ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_a_message_comes_back_equal(message: Message) -> None:
    assert CODEC.decode(message.kind, CODEC.encode_message(message)) == message


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.reason.name)
def test_a_decision_and_its_coordinates_come_back_equal(decision: Decision) -> None:
    assert CODEC.decode_decision(CODEC.encode_decision(decision, samples.AT)) == (decision, samples.AT)


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_and_reason_comes_back(outcome: Outcome, reason: Reason) -> None:
    decision = replace(samples.STALE, outcome=outcome, reason=reason)
    assert CODEC.decode_decision(CODEC.encode_decision(decision, samples.AT))[0] == decision


@pytest.mark.parametrize("change", [samples.CHANGE, samples.DELETION], ids=["change", "deletion"])
def test_a_change_comes_back_equal_with_what_its_header_holds(change: Any) -> None:
    value, headers = CODEC.encode_change(change)
    assert CODEC.decode_change(value, [("traceparent", b"x"), *headers]) == change


@pytest.mark.parametrize("entry", [*samples.LEDGER.values(), *samples.LEDGER_WINDOWS.values()])
def test_a_ledger_entry_comes_back_equal(entry: LedgerEntry) -> None:
    assert CODEC.decode_ledger(CODEC.encode_ledger(entry)) == entry


def test_a_control_record_comes_back_equal() -> None:
    assert decode_control(encode_control(samples.PUBLISHED)) == samples.PUBLISHED


def test_a_dead_letter_keeps_the_bytes_and_says_why() -> None:
    letter = decode_dead_letter(encode_dead_letter(samples.POISON, samples.UNDECODABLE, samples.AT))
    assert (letter.key, letter.value, letter.headers) == (b"\xff", b"\x00poison", (("traceparent", b"00-1"),))
    assert (letter.reason, letter.detail, letter.value_size) == (Reason.UNDECODABLE, "torn", 7)
    assert (letter.topic, letter.offset, letter.log_time) == (samples.AT.topic, samples.AT.offset, samples.AT.log_time)


@pytest.mark.parametrize(
    "record",
    [
        ConsumerRecord("t", 0, 0, 0, None, None),
        ConsumerRecord("t", 0, 0, 0, b"k" * (1 << 20), b"v" * (1 << 20), [("h", b"x" * (1 << 20))]),
        ConsumerRecord("t", 0, 0, 0, b"k", b"v" * (1 << 20), [("\ud800", b"x")] * 100_000),
    ],
    ids=["nothing", "all too long", "too many headers"],
)
def test_a_dead_letter_always_fits_into_a_record(record: ConsumerRecord) -> None:
    value = encode_dead_letter(record, samples.UNDECODABLE, samples.AT)
    assert len(value) < 1_000_000
    assert decode_dead_letter(value).value_size == (-1 if record.value is None else len(record.value))


@pytest.mark.parametrize("field", ["name", "input_id", "entity_id", "dedup_key", "detail"])
def test_a_decision_always_fits_into_a_record(field: str) -> None:
    long = replace(samples.STALE, **{field: "ü" * (1 << 20)})
    value = CODEC.encode_decision(long, samples.AT)
    assert len(value) < 65_536
    cut, _ = CODEC.decode_decision(value)
    assert cut == replace(long, **{field: "ü" * 512})


def test_the_batchs_columns_are_encoded_for_each_batch_anew() -> None:
    for sequence in (1, 2, 1):
        at = replace(samples.AT, sequence=sequence, decided_at=sequence)
        assert CODEC.decode_decision(CODEC.encode_decision(samples.STALE, at))[1] == at


def test_maps_are_written_in_the_order_of_their_keys() -> None:
    one = proposal(payload={**samples.RE_ROUTED.payload, "dimensions_mm": {"a": 1, "b": 2}})
    other = proposal(payload={**samples.RE_ROUTED.payload, "dimensions_mm": {"b": 2, "a": 1}})
    assert CODEC.encode_message(one) == CODEC.encode_message(other)


@pytest.mark.parametrize("risk", [0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308])
def test_doubles_come_through_as_they_are(risk: float) -> None:
    body = oracle.write(CONTRACTS.proposal, raw_proposal(risk=risk))
    got = CODEC.decode(Kind.PROPOSAL, single_object_head(json.dumps(CONTRACTS.proposal)) + body).payload["risk"]
    assert isinstance(got, float)
    assert (got, math.copysign(1, got)) == (risk, math.copysign(1, risk))


def test_not_a_number_comes_through_for_the_machine_to_refuse() -> None:
    body = oracle.write(CONTRACTS.proposal, raw_proposal(risk=math.nan))
    got = CODEC.decode(Kind.PROPOSAL, single_object_head(json.dumps(CONTRACTS.proposal)) + body).payload["risk"]
    assert isinstance(got, float)
    assert math.isnan(got)


# Clients --------------------------------------------------------------------------------------------------------------


def test_a_whole_number_is_a_double_where_one_is_asked() -> None:
    """JSON has no 1.0: a model answers 1 now and then."""
    message = proposal(payload={**samples.RE_ROUTED.payload, "risk": 1})
    risk = CODEC.decode(Kind.PROPOSAL, CODEC.encode_message(message)).payload["risk"]
    assert (risk, type(risk)) == (1.0, float)


def test_fields_with_a_default_and_optional_ones_may_be_left_out() -> None:
    message = proposal(payload={"place": "x", "risk": 1.0, "dimensions_mm": {}})
    assert CODEC.decode(Kind.PROPOSAL, CODEC.encode_message(message)).payload == {
        "place": "x",
        "risk": 1.0,
        "fragile": True,
        "fee": Decimal("-0.01"),
        "labels": ["urgent"],
        "dimensions_mm": {},
        "note": "none",
        "due": None,
    }


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"place": 7}, "`place` is 7"),
        ({"risk": True}, "`risk` is True"),
        ({"risk": 10**400}, "`risk` is 1000"),
        ({"risk": math.nan}, "`risk` is nan"),
        ({"fragile": 1}, "`fragile` is 1"),
        ({"fee": 1.5}, "`fee` is 1.5"),
        ({"fee": Decimal("0.001")}, "`fee` is"),
        ({"fee": Decimal("100000000.00")}, "`fee` is"),
        ({"labels": ["a", 1]}, "`labels` is"),
        ({"dimensions_mm": {"a": 2**31}}, "`dimensions_mm` is"),
        ({"due": 2**63}, "`due` is"),
        ({"colour": "red"}, "`colour` is no field"),
        ({"place": "\ud800"}, "surrogates not allowed"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_by_the_fields_name(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidPayload, match=named):
        CODEC.encode_message(proposal(payload={**samples.RE_ROUTED.payload, **changed}))


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidPayload, match="`place` is missing: string"):
        CODEC.encode_message(proposal(payload={}))


@pytest.mark.parametrize(
    "changed",
    [{"entity_id": 7}, {"issued_at": 1.5}, {"base_version": True}, {"dedup_key": 3}, {"valid_until": "soon"}],
)
def test_an_envelope_that_does_not_fit_is_refused_by_the_fields_name(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload, match=f"`{next(iter(changed))}` is of a wrong type"):
        made_message(**{field.name: getattr(samples.RE_ROUTED, field.name) for field in fields(Message)} | changed)


def test_an_envelope_that_was_made_by_hand_is_refused_by_the_fields_name_too() -> None:
    parts = {field.name: getattr(samples.RE_ROUTED, field.name) for field in fields(Message)}
    for wrong in ({"issued_at": 1.5}, {"entity_id": 7}):
        with pytest.raises((InvalidPayload, TypeError), match=r"wrong type|expected"):
            CODEC.encode_message(Message(**parts | wrong))


def test_a_number_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(InvalidPayload, match="more than 64 bits"):
        CODEC.encode_message(proposal(issued_at=2**63))


def test_a_client_learns_at_once_that_a_record_is_too_long() -> None:
    with pytest.raises(InvalidPayload, match="at most 1048576"):
        CODEC.encode_message(samples.RE_ROUTED, rationale="x" * (1 << 20))


@pytest.mark.parametrize(
    ("given", "priority"),
    [(None, Priority.CRITICAL), ("critical", Priority.CRITICAL), ("normal", Priority.NORMAL), ("low", Priority.LOW)],
)
def test_the_definitions_priority_counts_unless_one_is_given(given: str | None, priority: Priority) -> None:
    body = oracle.write(CONTRACTS.proposal, raw_proposal() | {"priority": given})
    assert CODEC.decode(Kind.PROPOSAL, single_object_head(json.dumps(CONTRACTS.proposal)) + body).priority is priority


# Refusals -------------------------------------------------------------------------------------------------------------


def raw_proposal(**payload: Any) -> dict[str, Any]:
    """A Proposal record as another implementation would hold it."""
    values = {
        "place": "x",
        "risk": 0.5,
        "fragile": True,
        "fee": b"\x01",
        "labels": [],
        "dimensions_mm": {},
        "note": None,
        "due": None,
    }
    return {
        "proposal_id": "p-1",
        "entity_id": "parcel-7",
        "name": "re_route_2",
        "issued_at": 5,
        "base_version": 0,
        "payload": ("placet.parcel.proposal.ReRoute_2", {**values, **payload}),
    }


def decode_raw(record: dict[str, Any]) -> Message:
    return CODEC.decode(
        Kind.PROPOSAL, single_object_head(json.dumps(CONTRACTS.proposal)) + oracle.write(CONTRACTS.proposal, record)
    )


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": "fly"}, "the definition has no `fly`; it has re_route_2, give_up"),
        ({"name": "give_up"}, "the payload of `give_up` is a .*GiveUp, not a .*ReRoute_2"),
        ({"priority": "highest"}, "priority `highest` is none of critical, normal, low"),
        ({"payload": raw_proposal(fee=b"\x7f" * 5)["payload"]}, r"5 bytes are no decimal\(10, 2\)"),
        ({"payload": raw_proposal(fee=b"")["payload"]}, r"0 bytes are no decimal\(10, 2\)"),
        ({"payload": raw_proposal(fee=b"\x7f" * 300)["payload"]}, r"300 bytes are no decimal\(10, 2\)"),
    ],
)
def test_what_decodes_but_does_not_fit_its_name_is_an_invalid_payload_of_a_known_input(
    changed: dict[str, Any], sentence: str
) -> None:
    record = {**raw_proposal(), **changed}
    with pytest.raises(InvalidPayload, match=sentence) as caught:
        decode_raw(record)
    error = caught.value
    assert (error.name, error.input_id, error.entity_id) == (record["name"], "p-1", "parcel-7")


def test_what_an_error_repeats_of_an_input_is_short() -> None:
    with pytest.raises(InvalidPayload) as caught:
        decode_raw({**raw_proposal(), "name": "n" * 100_000, "proposal_id": "p" * 100_000})
    assert max(map(len, (str(caught.value), caught.value.name, caught.value.input_id))) < 1000


def test_a_definition_without_proposals_refuses_each_by_its_name() -> None:
    fields = {**samples.DEFINITION.written(), "proposals": {}}
    codec = Codec(parse_definition(json.dumps(fields)))
    schema = contracts(parse_definition(json.dumps(fields))).proposal
    body = oracle.write(schema, raw_proposal() | {"payload": None})
    with pytest.raises(InvalidPayload, match="the definition has no `re_route_2`; it has none"):
        codec.decode(Kind.PROPOSAL, single_object_head(json.dumps(schema)) + body)


def test_a_signal_on_the_topic_of_proposals_is_no_record() -> None:
    with pytest.raises(DecodeError, match="a signal record stands where a proposal is expected"):
        CODEC.decode(Kind.PROPOSAL, CODEC.encode_message(samples.SCANNED))


def test_a_fingerprint_that_nobody_knows_is_worth_sending_again() -> None:
    with pytest.raises(UnknownSchema, match="c301deadbeefdeadbeef"):
        CODEC.decode(Kind.SIGNAL, bytes.fromhex("c301deadbeefdeadbeef") + b"\x00" * 50)


@pytest.mark.parametrize(
    "value", [b"", b"\xc3", b"\xc3\x02", b"\xc3\x02" + b"\x00" * 20, b"{}", b"Obj\x01", b"\xff" * 30]
)
def test_bytes_that_begin_with_no_framing_are_refused(value: bytes) -> None:
    with pytest.raises(DecodeError, match="neither c3 01 nor 00"):
        CODEC.decode(Kind.SIGNAL, value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\xc3\x01", "the value has only 2 of the 10 bytes that c3 01 and a fingerprint take"),
        (b"\xc3\x01" + b"\x00" * 7, "the value has only 9 of the 10 bytes that c3 01 and a fingerprint take"),
        (b"\x00", "the value has only 1 of the 5 bytes that 00 and a schema's id take"),
        (b"\x00" * 4, "the value has only 4 of the 5 bytes that 00 and a schema's id take"),
    ],
)
def test_bytes_that_end_within_the_framing_are_said_to_be_too_few(value: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=f"^{said}$"):
        CODEC.decode(Kind.SIGNAL, value)


def test_a_longer_record_than_allowed_is_refused_before_it_is_read() -> None:
    value = CODEC.encode_message(samples.RE_ROUTED)
    assert Codec(samples.DEFINITION, record_bytes_max=len(value)).decode(Kind.PROPOSAL, value) == samples.RE_ROUTED
    with pytest.raises(DecodeError, match=f"at most {len(value) - 1}"):
        Codec(samples.DEFINITION, record_bytes_max=len(value) - 1).decode(Kind.PROPOSAL, value)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_no_record_is_read_from_fewer_or_more_bytes(message: Message) -> None:
    value = CODEC.encode_message(message)
    for size in range(len(value)):
        with pytest.raises(DecodeError):
            CODEC.decode(message.kind, value[:size])
    with pytest.raises(DecodeError, match="the record ends at byte"):
        CODEC.decode(message.kind, value + b"\x00")


OVERLONG = b"\x80" * 40 + b"\x01"
HUGE = encoded_long(2**62)


@pytest.mark.parametrize(
    ("kind", "data", "sentence"),
    [
        ("long", OVERLONG, "more than 64 bits"),
        ("long", b"\xff" * 9 + b"\x02", "more than 64 bits"),
        ("long", b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        ("int", encoded_long(2**31), "more than 32 bits"),
        ("int", encoded_long(-(2**31) - 1), "more than 32 bits"),
        ("string", encoded_long(-1), "a length is negative"),
        ("string", encoded_long(-(2**40)), "a length is negative"),
        ("string", HUGE, "torn|ends at byte"),
        ("string", encoded_long(2) + b"\xff\xfe", "no UTF-8"),
        ("string", encoded_long(3) + b"\xed\xa0\x80", "no UTF-8"),
        ("bytes", encoded_long(-5) + b"abcde", "a length is negative"),
        ("bytes", HUGE + b"abc", "torn|ends at byte"),
        ("boolean", b"\x02", "a boolean is 2"),
        ("double", b"\x00" * 7, "torn"),
        (["null", "string"], b"\x04\x00", "no branch 2"),
        (["null", "string"], b"\x01\x00", "no branch"),
        (["null", "long"], b"\x04", "no branch 2"),
        (["null", "double"], b"\x04", "no branch"),
        (["null", "string"], b"\x02\x03", "a length is negative"),
        ({"type": "array", "items": "int"}, encoded_long(10**9) + b"\x00", "1000000000 items are announced in 1 bytes"),
        ({"type": "array", "items": "int"}, HUGE, "items are announced"),
        ({"type": "array", "items": "int"}, encoded_long(-(2**63)) + b"\x02", "items are announced"),
        ({"type": "array", "items": "int"}, b"\x02\x02", "torn"),
        ({"type": "map", "values": "int"}, encoded_long(10**9) + b"\x00", "items are announced"),
        ({"type": "map", "values": "int"}, b"\x02\x02", "torn"),
    ],
)
def test_a_hostile_value_is_refused_in_no_time(kind: Any, data: bytes, sentence: str) -> None:
    schema = {**CONTRACTS.signal, "fields": [{"name": "x", "type": kind}, *CONTRACTS.signal["fields"]]}
    codec = Codec(samples.DEFINITION)
    codec.learn(schema)
    value = single_object_head(json.dumps(schema)) + data
    start = time.monotonic()
    with pytest.raises(DecodeError, match=sentence):
        codec.decode(Kind.SIGNAL, value)
    assert time.monotonic() - start < 1


def test_numbers_may_be_written_longer_than_needed_as_long_as_they_have_64_bits() -> None:
    data = b"\x82\x80\x80\x00" + b"\xff" * 9 + b"\x01" + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    out, i = [], 0
    while i < len(data):
        value, i = READERS["long"].read(data, i)
        out.append(value)
    assert out == [1, -(2**63), 2**63 - 1]


@pytest.mark.parametrize("bad", [{}, {"name": None, "type": "record"}, "string", ["null"], 7, None])
@pytest.mark.parametrize("as_text", [True, False])
def test_what_is_no_schema_is_not_learned(bad: Any, as_text: bool) -> None:
    with pytest.raises(DecodeError):
        CODEC.learn(json.dumps(bad) if as_text else bad)


DEEP: Any = "int"
for _ in range(10):
    DEEP = {"type": "array", "items": {"type": "record", "name": "D", "fields": [{"name": "d", "type": DEEP}]}}
EMPTY = {"type": "record", "name": "Empty", "fields": []}


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (["null", "Signal"], "no type that Placet reads"),
        ("placet.parcel.Signal", "no type that Placet reads"),
        ({"type": "array", "items": "null"}, "no type that Placet reads"),
        ({"type": "array", "items": EMPTY}, "at least one byte"),
        ({"type": "map", "values": EMPTY}, "at least one byte"),
        ({"type": "array", "items": {**EMPTY, "fields": [{"name": "e", "type": EMPTY}]}}, "at least one byte"),
        ({"type": "array", "items": {"type": "array", "items": "int"}}, "an item is a scalar or a record"),
        ({"type": "fixed", "name": "F", "size": 0}, "no type that Placet reads"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "no type that Placet reads"),
        ("float", "no type that Placet reads"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "no type that Placet reads"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 39}, "out of range"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 5}, "out of range"),
        ({"type": "bytes", "logicalType": ["decimal"]}, "no type that Placet reads"),
        (["string", "int"], "a union is"),
        ([], "a union is"),
        (DEEP, "nested deeper than"),
    ],
)
def test_a_schema_of_other_shapes_is_not_learned(kind: Any, sentence: str) -> None:
    fields = [*CONTRACTS.signal["fields"], {"name": "extra", "type": kind}]
    with pytest.raises(DecodeError, match=sentence):
        CODEC.learn({**CONTRACTS.signal, "fields": fields})


@pytest.mark.parametrize("text", ["[" * 100_000, '{"type":' * 100_000, "x" * (1 << 21), "", "NaN"])
def test_hostile_json_is_no_schema(text: str) -> None:
    with pytest.raises(DecodeError):
        CODEC.learn(text)


def test_a_change_without_its_header_is_refused() -> None:
    value, _ = CODEC.encode_change(samples.CHANGE)
    for headers in (None, [], [("other", b"")]):
        with pytest.raises(DecodeError, match="the header placet-state is missing"):
            CODEC.decode_change(value, headers)


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x90", b"\x92\x80\xa1x", b"\xff" * 20, b"\x91" * 100_000])
def test_a_change_with_a_broken_header_is_refused(content: bytes) -> None:
    value, _ = CODEC.encode_change(samples.CHANGE)
    with pytest.raises(DecodeError, match="a broken header"):
        CODEC.decode_change(value, [("placet-state", content)])


def test_records_of_a_later_release_are_refused_by_name() -> None:
    value = CODEC.encode_decision(samples.STALE, samples.AT)
    later = value.replace(encoded_string("REFUSED"), encoded_string("DROPPED"))
    with pytest.raises(DecodeError, match="unknown outcome, kind or reason: 'DROPPED'"):
        CODEC.decode_decision(later)


# Records of other definitions -----------------------------------------------------------------------------------------


def with_rules(**changed: Any) -> Definition:
    """The golden definition as another version has it."""
    return parse_definition(json.dumps({**samples.DEFINITION.written(), **changed}))


def payload_of(name: str, **fields: Any) -> dict[str, Any]:
    """The golden proposals with another payload for one of them."""
    proposals = dict(samples.DEFINITION.written()["proposals"])
    transition = [{"from": ["accepted"]}]
    proposals[name] = {**proposals.get(name, {}), "payload": fields, "transitions": transition}
    return proposals


def met(old: Definition, new: Definition) -> tuple[Codec, Codec]:
    """The codecs of two versions; the second knows the contracts of the first."""
    codec = Codec(new)
    for schema in contracts(old)._asdict().values():
        codec.learn(json.dumps(schema))
    return Codec(old), codec


def test_an_input_of_another_version_gets_our_defaults_and_loses_what_we_lack() -> None:
    old = with_rules(version=1, proposals=payload_of("turn", gone="string", by="int", note="string"))
    new = with_rules(
        version=2,
        proposals=payload_of(
            "turn",
            tags={"type": "array", "items": "string", "default": ["a"]},
            note="string | null",
            by="long",
            fee={"type": "decimal", "precision": 4, "scale": 2, "default": "-1.28"},
            extra="int | null",
        ),
    )
    writer, reader = met(old, new)
    message = proposal(name="turn", payload={"gone": "x", "by": -(2**31), "note": "n"})
    expected = {"tags": ["a"], "note": "n", "by": -(2**31), "fee": Decimal("-1.28"), "extra": None}
    decoded = reader.decode(Kind.PROPOSAL, writer.encode_message(message))
    assert decoded == replace(message, payload=expected)
    decoded.payload["tags"].append("b")  # type: ignore[union-attr]  # a list, as the line above shows
    assert reader.decode(Kind.PROPOSAL, writer.encode_message(message)).payload == expected


@pytest.mark.parametrize(
    ("before", "after", "payload", "sentence"),
    [
        ({"by": "string"}, {"by": "int"}, {"by": "1"}, "string can't be read as int"),
        ({"by": "long"}, {"by": "int"}, {"by": 1}, "long can't be read as int"),
        ({}, {"by": "int"}, {}, "`by` is missing and has no default"),
        ({"by": "int | null"}, {"by": "int"}, {"by": None}, "`by` is null: it was optional once"),
        (
            {"by": {"type": "decimal", "precision": 4, "scale": 2}},
            {"by": {"type": "decimal", "precision": 5, "scale": 1}, "b": "int | null"},
            {"by": Decimal(1)},
            r"decimal\(4, 2\) can't be read as decimal\(5, 1\)",
        ),
    ],
)
def test_an_input_of_another_version_that_does_not_fit_ours_is_an_invalid_payload(
    before: dict[str, Any], after: dict[str, Any], payload: dict[str, Any], sentence: str
) -> None:
    writer, reader = met(
        with_rules(proposals=payload_of("turn", **before)), with_rules(proposals=payload_of("turn", **after))
    )
    with pytest.raises(InvalidPayload, match=sentence) as caught:
        reader.decode(Kind.PROPOSAL, writer.encode_message(proposal(name="turn", payload=payload)))
    assert (caught.value.name, caught.value.entity_id) == ("turn", "parcel-7")


def test_a_name_that_only_the_other_version_has_is_an_invalid_payload() -> None:
    writer, reader = met(with_rules(proposals=payload_of("turn", by="int")), samples.DEFINITION)
    with pytest.raises(InvalidPayload, match="the definition has no `turn`"):
        reader.decode(Kind.PROPOSAL, writer.encode_message(proposal(name="turn", payload={"by": 1})))


def test_a_change_of_another_version_is_our_state() -> None:
    old_fields = {"place": "string | null", "scans": "int | null", "gone": "int | null"}
    fields = {**samples.DEFINITION.written()["fields"], "place": "string | null"}
    rules = {"signals": {"made": {"transitions": [{"from": ["absent"], "to": "accepted"}]}}, "proposals": {}}
    writer, reader = met(with_rules(fields=old_fields, **rules), with_rules(version=2, fields=fields, **rules))
    state = EntityState(3, 5, "accepted", {"place": "x", "scans": 7, "gone": 1}, {"gone": 2}, {})
    value, headers = writer.encode_change(replace(samples.CHANGE, state=state))
    assert reader.decode_state(value, headers) == replace(state, fields={"place": "x", "scans": 7}, carried={"gone": 1})
    assert reader.decode_change(value, headers).state == replace(
        state,
        carried={"gone": 1},
        fields={
            "place": "x",
            "weight_g": 0,
            "scans": 7,
            "risk": 0.5,
            "fragile": False,
            "due": None,
            "fee": Decimal("1.50"),
            "labels": [],
            "dimensions_mm": {},
            "note": None,
        },
    )


def test_a_field_that_got_another_scale_is_never_misread() -> None:
    fee = {"type": "decimal", "precision": 10, "scale": 4, "default": "0"}
    fields = {**samples.DEFINITION.written()["fields"], "fee": fee}
    proposals = {"give_up": samples.DEFINITION.written()["proposals"]["give_up"]}
    with pytest.raises(DecodeError, match="a field is never given another type"):
        met(with_rules(proposals=proposals), with_rules(proposals=proposals, fields=fields))


def test_a_schema_may_be_learned_twice_and_with_other_docs_and_defaults() -> None:
    codec = Codec(samples.DEFINITION)
    for _ in range(2):
        codec.learn({**CONTRACTS.proposal, "doc": "other"})
    assert codec.decode(Kind.PROPOSAL, codec.encode_message(samples.RE_ROUTED)) == samples.RE_ROUTED


def test_the_contract_of_another_entity_type_is_not_learned() -> None:
    with pytest.raises(DecodeError, match=r"placet\.box\.Signal is none of placet\.parcel\.Signal"):
        CODEC.learn({**CONTRACTS.signal, "namespace": "placet.box"})


def test_coordinates_lead_the_schema_in_the_order_of_their_batch() -> None:
    names = [column.name for column in parse_schema(DECISION).columns]
    assert set(names[:10]) == {field.name for field in fields(Coordinates)}
    assert names[:7] == [
        "topic",
        "partition",
        "task_epoch",
        "sequence",
        "decided_at",
        "definition_digest",
        "control_position",
    ]
