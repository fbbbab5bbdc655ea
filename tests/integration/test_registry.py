"""The schema registry: our client code against the client's own registry in memory, and against a real Apicurio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from typer.testing import CliRunner

from placet.cli.schemas import app
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.wire import confluent_head
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import SettingsError, UnknownSchema
from placet.schemas.messages import Kind
from placet.streams.host import LocalHost
from placet.streams.kafka.schema_registry import Registry, RegistryUnreachable, subjects
from tests.golden import samples
from tests.integration.apicurio import Apicurio, apicurio
from tests.staged import StagedHost

APP = "demo"
SUBJECTS = subjects(APP, "parcel")


class Clock:
    """A clock that stands still until it is moved."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def changed(**sections: object) -> Definition:
    return parse_definition(json.dumps({**samples.DEFINITION.written(), **sections}))


@pytest.fixture
def in_memory(request: pytest.FixtureRequest) -> Registry:
    return Registry(LocalHost(), f"mock://{request.node.name}")


def test_subjects_follow_the_topics() -> None:
    assert SUBJECTS == {
        "signal": "demo.parcel.signals-value",
        "proposal": "demo.parcel.proposals-value",
        "change": "demo.parcel.changelog-value",
        "decision": "demo.parcel.decisions-value",
        "ledger": "demo.parcel.ledger-value",
        "control": "demo.control-value",
        "dead_letter": "demo.dead-letters-value",
    }


def test_nothing_is_registered_by_itself(in_memory: Registry) -> None:
    with pytest.raises(SettingsError, match=r"demo\.parcel\.signals-value: run `placet schemas register`"):
        Codec(samples.DEFINITION, in_memory.wire(APP, "parcel"))


def test_registered_once_the_codec_frames_with_the_registrys_ids(in_memory: Registry) -> None:
    ids = {item.subject: item.id for item in in_memory.register(APP, samples.DEFINITION)}
    codec = Codec(samples.DEFINITION, in_memory.wire(APP, "parcel"))
    value = codec.encode_message(samples.RE_ROUTED)
    assert value[:5] == confluent_head(ids[SUBJECTS["proposal"]] or 0)
    assert codec.decode(Kind.PROPOSAL, value) == samples.RE_ROUTED


def test_registering_again_changes_nothing(in_memory: Registry) -> None:
    first = in_memory.register(APP, samples.DEFINITION)
    again = in_memory.register(APP, samples.DEFINITION)
    assert [item.id for item in first] == [item.id for item in again]
    assert {item.state for item in again} == {"registered"}


def test_a_dry_run_only_tells(in_memory: Registry) -> None:
    assert {item.state for item in in_memory.register(APP, samples.DEFINITION, dry_run=True)} == {"new"}
    with pytest.raises(SettingsError):
        in_memory.id_of(SUBJECTS["signal"], contracts(samples.DEFINITION).signal)


def test_each_subject_gets_the_compatibility_of_its_role(in_memory: Registry) -> None:
    levels = {item.subject: item.compatibility for item in in_memory.register(APP, samples.DEFINITION)}
    inputs = {SUBJECTS["signal"], SUBJECTS["proposal"]}
    assert {subject for subject, level in levels.items() if level == "BACKWARD_TRANSITIVE"} == inputs
    assert {level for subject, level in levels.items() if subject not in inputs} == {"FULL_TRANSITIVE"}


def test_a_record_of_a_version_that_only_the_registry_knows_is_read(in_memory: Registry) -> None:
    newer = changed(version=2, statuses=["accepted", "in_transit", "lost", "found"], **_one_field_more())
    in_memory.register(APP, samples.DEFINITION)
    codec = Codec(samples.DEFINITION, in_memory.wire(APP, "parcel"))
    in_memory.register(APP, newer)
    value = Codec(newer, in_memory.wire(APP, "parcel")).encode_message(samples.SCANNED)
    assert codec.decode(Kind.SIGNAL, value) == samples.SCANNED


def test_an_unknown_id_is_not_asked_for_again_for_a_while() -> None:
    clock = Clock()
    registry = Registry(StagedHost(monotonic_s=clock), "mock://unknown")
    with pytest.raises(UnknownSchema, match=r"does not know the schema id 1$"):
        registry.text_of(1)
    registry.register(APP, samples.DEFINITION)
    with pytest.raises(UnknownSchema, match="asked too often"):
        registry.text_of(1)
    clock.now_s = 60.0
    assert "placet.parcel" in registry.text_of(1)


def test_made_up_ids_can_not_keep_the_gate_busy_asking() -> None:
    clock = Clock()
    registry = Registry(StagedHost(monotonic_s=clock), "mock://flood")
    for schema_id in range(1, 1000):
        with pytest.raises(UnknownSchema, match=r"id 1$" if schema_id == 1 else "asked too often"):
            registry.text_of(schema_id)
    clock.now_s = 1.0
    with pytest.raises(UnknownSchema, match=r"id 1000$"):
        registry.text_of(1000)


def test_a_registry_that_does_not_answer_is_said_so() -> None:
    registry = Registry(LocalHost(), "http://127.0.0.1:1", {"max.retries": "0"})
    with pytest.raises(RegistryUnreachable, match=r"127\.0\.0\.1:1"):
        registry.id_of("s", {"type": "record", "name": "R", "fields": []})
    with pytest.raises(UnknownSchema, match=r"127\.0\.0\.1:1"):
        registry.text_of(1)
    with pytest.raises(UnknownSchema, match="asked too often"):
        registry.text_of(2)


@pytest.mark.parametrize(("url", "options"), [("gopher://x", {}), ("http://x", {"nonsense": "1"})])
def test_wrong_options_are_settings_errors(url: str, options: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="refuses its options"):
        Registry(LocalHost(), url, options)


def test_the_command_registers_and_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "parcel.yaml"
    path.write_text(samples.DEFINITION.document, encoding="utf-8")
    done = CliRunner().invoke(app, ["register", str(path), "--registry", "mock://c", "--app", APP, "-o", "json"])
    assert done.exit_code == 0
    assert {item["subject"] for item in json.loads(done.output)} == set(SUBJECTS.values())
    monkeypatch.delenv("PLACET_REGISTRY__URL", raising=False)
    monkeypatch.delenv("SCHEMA_REGISTRY_URL", raising=False)
    nowhere = CliRunner().invoke(app, ["register", str(path)])
    assert isinstance(nowhere.exception, SettingsError)


# A real one -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    with apicurio(tmp_path_factory.mktemp("apicurio")) as started:
        yield started


@pytest.mark.long
def test_apicurio_takes_our_schemas_and_refuses_what_breaks_them(running: Apicurio) -> None:
    registry = Registry(LocalHost(), running.url)
    first = registry.register(APP, samples.DEFINITION)
    assert {item.state for item in registry.register(APP, samples.DEFINITION)} == {"registered"}
    assert [item.id for item in registry.register(APP, samples.DEFINITION)] == [item.id for item in first]

    registry.register(APP, changed(version=2, **_one_field_more()))
    fields = {**samples.DEFINITION.written()["fields"], "weight_g": {"type": "string", "default": ""}}
    rules = {"signals": {"made": {"transitions": [{"from": ["absent"], "to": "accepted", "set": {"place": "''"}}]}}}
    broken = changed(version=3, fields=fields, proposals={}, **rules)
    states = {item.subject: item.state for item in registry.register(APP, broken, dry_run=True)}
    assert states[SUBJECTS["change"]] == "refused"
    assert states[SUBJECTS["decision"]] == "registered"
    with pytest.raises(SettingsError, match="refuses the schema of demo"):
        registry.register(APP, broken)


@pytest.mark.long
def test_the_clients_own_deserializer_reads_our_records_from_apicurio(running: Apicurio) -> None:
    registry = Registry(LocalHost(), running.url)
    registry.register("other", samples.DEFINITION)
    codec = Codec(samples.DEFINITION, registry.wire("other", "parcel"))
    value, _ = codec.encode_change(samples.CHANGE)
    client = SchemaRegistryClient.new_client({"url": running.url})
    topic = subjects("other", "parcel")["change"].removesuffix("-value")
    read = AvroDeserializer(client)(value, SerializationContext(topic, MessageField.VALUE))
    assert isinstance(read, dict)
    assert (read["placet_version"], read["fee"], read["place"]) == (18, Decimal("-128.00"), "Łódź")


@pytest.mark.long
def test_a_record_of_a_version_that_only_apicurio_knows_is_read(running: Apicurio) -> None:
    registry = Registry(LocalHost(), running.url)
    registry.register("third", samples.DEFINITION)
    codec = Codec(samples.DEFINITION, registry.wire("third", "parcel"))
    newer = changed(version=2, **_one_field_more())
    Registry(LocalHost(), running.url).register("third", newer)
    value = Codec(newer, Registry(LocalHost(), running.url).wire("third", "parcel")).encode_message(samples.SCANNED)
    assert codec.decode(Kind.SIGNAL, value) == samples.SCANNED


def _one_field_more() -> dict[str, object]:
    """A version of the golden definition whose signal says one thing more, and may leave it out."""
    written = samples.DEFINITION.written()
    scanned = written["signals"]["scanned"]
    payload = {**scanned["payload"], "lane": "int | null"}
    return {
        "fields": {**written["fields"], "lane": "int | null"},
        "signals": {**written["signals"], "scanned": {**scanned, "payload": payload}},
    }
