"""Inputs of a schema that nobody here knows: whoever may know it is asked before they are refused."""

from __future__ import annotations

import json
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import msgspec
import pytest

from placet.definitions import parse_definition
from placet.processors.machine import compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.wire import Confluent, confluent_head
from placet.schemas.decision import Decision, Reason
from placet.schemas.errors import PlacetError, UnknownSchema
from placet.schemas.ledger import Genesis
from placet.schemas.messages import Kind, Message
from placet.streams.errors import LogUnreachable
from placet.streams.host import LocalHost
from placet.streams.kafka.schema_registry import Registry, RegistryUnreachable, SchemaTexts
from placet.streams.loop.task import Task
from placet.streams.loop.unknown_schemas import SchemaQuestion
from placet.streams.records import ConsumerRecord
from placet.streams.state.layout import deleted_key, dump_log_time, reminders, state_key
from placet.streams.state.store import MemoryStore
from placet.streams.topology import TaskId, entity_topics
from tests.staged import StagedHost

NOW = 1_000_000_000
TOPICS = entity_topics("app", "lamp")
TEXT = """
entity: lamp
version: 1
statuses: [lit]
signals:
  lit: {from: [absent, lit], to: lit}
"""
LAMP = parse_definition(TEXT)
NEWER = parse_definition(TEXT.replace("version: 1", "version: 2") + "  dimmed: {payload: {watts: int}, from: lit}\n")
NEWER_SIGNALS = Codec(NEWER)
NOBODYS = b"\xc3\x01schemaXY"


class Lamp:
    """A task whose signals are read, and the question about schemas, with a registry that answers as a test says.

    Args:
        beside: of another task of the same gate.
        unknown_ids: as in the settings.

    Attributes:
        registry: answers by id: a schema, or what goes wrong; it knows no other id.
        asked: the ids that it was asked for.
    """

    def __init__(self, beside: Lamp | None = None, unknown_ids: Collection[int] = ()) -> None:
        self.registry: dict[int, str | PlacetError] = {}
        self.asked: list[int] = []
        self.texts = SchemaTexts(cast("Any", SimpleNamespace(find=self._find)), unknown_ids)
        ids: dict[str, int] = {}
        wire = Confluent(
            lambda _role, schema: ids.setdefault(schema, 2_000 + len(ids)),
            lambda _role, schema_id: self.texts.text_of(schema_id),
        )
        self.codec = Codec(LAMP, wire) if beside is None else beside.codec
        self.store = MemoryStore()
        rules = Rules(compile_machine(LAMP), self.codec)
        self.task = Task(TaskId("lamp", int(beside is not None)), TOPICS, "dead", rules, self.store, 1)
        self.task.open(None, dict.fromkeys(TOPICS.inputs, 0), Genesis({}, 1, 0, NOW))
        self.now_s = 0.0
        self.control = MagicMock(position=3)
        self.ends: list[Future[int]] = []
        self.told = MagicMock()
        host = StagedHost(
            now_ms=lambda: NOW + int(self.now_s * 1000), monotonic_s=lambda: self.now_s,
            spawn=lambda _name, work: work(),
        )  # fmt: skip
        self.question = SchemaQuestion(host, self.control, self._ask_end, self.texts, self.told)
        self._offset = 0

    def _find(self, schema_id: int) -> str | None:
        self.asked.append(schema_id)
        answer = self.registry.get(schema_id)
        if isinstance(answer, PlacetError):
            raise answer
        return answer

    def _ask_end(self) -> Future[int]:
        self.ends.append(Future())
        return self.ends[-1]

    def signal(self, number: int, codec: Codec | None = None) -> bytes:
        return (codec or self.codec).encode_message(Message(Kind.SIGNAL, "lit", f"s-{number}", "l", {}, NOW, NOW))

    def named(self, schema_id: int) -> bytes:
        """Return a signal that names a schema by the registry's id."""
        return confluent_head(schema_id) + self.signal(schema_id, NEWER_SIGNALS)[10:]

    def decisions(self, *values: bytes) -> list[Decision]:
        """Decide what was left over, and these; commit."""
        records = [ConsumerRecord(TOPICS.signals, 0, self._offset + n, NOW, b"l", v) for n, v in enumerate(values)]
        self._offset += len(values)
        written = self.task.process(records, NOW, NOW)
        self.task.committed({})
        decisions = [record.value for record in written if record.topic == TOPICS.decisions]
        return [self.codec.decode_decision(value or b"")[0] for value in decisions]

    def decide(self, *values: bytes) -> list[Reason]:
        """As above; return the reasons."""
        return [decision.reason for decision in self.decisions(*values)]

    def look(self, *others: Lamp) -> tuple[int, int]:
        waits, goes_on = self.question.look([self.task, *(other.task for other in others)])
        return len(waits), len(goes_on)

    def answer(self, *others: Lamp) -> tuple[int, int]:
        """Ask, and let all answers come; return how many begin to wait, and go on."""
        begun, _ = self.look(*others)
        self.ends[-1].set_result(3)
        return begun, self.look(*others)[1]

    def waits(self) -> dict[str, tuple[str, str]]:
        """Return what is told of tasks: which schema, and why."""
        return {task: (wait.schema, wait.why) for task, wait in self.question.told.items()}

    def events(self) -> list[str]:
        return [call.args[0] for call in self.told.event.mock_calls]


def test_an_input_of_an_unknown_schema_waits_with_all_behind_it_until_control_is_read_to_its_end() -> None:
    lamp = Lamp()
    assert lamp.decide(lamp.signal(1), NOBODYS, lamp.signal(2)) == [Reason.NONE]
    assert lamp.look() == (1, 0)
    assert lamp.look() == (0, 0), "it is told once"
    lamp.ends[0].set_result(5)
    assert lamp.look() == (0, 0), "control is read to 3"
    lamp.control.hurry.assert_called()
    lamp.control.position = 5
    assert lamp.look() == (0, 1)
    assert lamp.decide() == [Reason.UNKNOWN_SCHEMA, Reason.NONE]
    assert (lamp.events(), len(lamp.ends)) == ([], 1)


def test_a_schema_that_was_published_before_its_input_came_is_never_refused() -> None:
    lamp = Lamp()
    assert lamp.decide(lamp.signal(1, NEWER_SIGNALS)) == []
    lamp.look()
    lamp.codec.learn(contracts(NEWER).signal)  # as it stands on control
    lamp.ends[0].set_result(3)
    lamp.look()
    assert lamp.decide() == [Reason.NONE]


def test_an_answer_is_about_what_was_polled_before_the_question() -> None:
    lamp = Lamp()
    lamp.decide(NOBODYS)
    lamp.look()
    lamp.ends[0].set_result(3)
    lamp.look()
    assert lamp.decide(NOBODYS) == [Reason.UNKNOWN_SCHEMA], "the first one; the second came later"
    assert lamp.task.asking.number


def test_an_answer_to_a_question_about_inputs_that_are_read_again_is_about_none_of_them() -> None:
    lamp = Lamp()
    lamp.decide(NOBODYS)
    lamp.look()
    lamp.task.discard()
    assert lamp.question.look([lamp.task]) == ([], [])
    lamp.ends[0].set_result(3)
    assert lamp.look() == (0, 0)
    assert not lamp.task.asking.number


@pytest.mark.parametrize("outage", ["of the registry", "of the control topic's leader"])
def test_an_outage_delays_the_input_and_refuses_nothing(outage: str) -> None:
    lamp = Lamp()
    of_registry = outage == "of the registry"
    lamp.registry[9] = RegistryUnreachable("503")
    lamp.decide(lamp.named(9) if of_registry else NOBODYS)
    for _ in range(3):
        lamp.look()
        if of_registry:
            lamp.ends[-1].set_result(3)
        else:
            lamp.ends[-1].set_exception(LogUnreachable("its leader gave no offset"))
        assert lamp.look() == (0, 0)
        lamp.now_s += 1.1
    assert lamp.events() == ["inputs wait for a schema"], "once, not with each try"
    wanted = {"lamp-0": ("id 9", "503") if of_registry else (NOBODYS.hex(), "its leader gave no offset")}
    assert lamp.waits() == wanted
    del lamp.registry[9]
    assert lamp.answer() == (0, 1)
    assert lamp.events() == ["inputs wait for a schema", "inputs wait for a schema no longer"]
    assert (lamp.waits(), lamp.decide()) == ({}, [Reason.UNKNOWN_SCHEMA])


def test_an_id_that_is_never_answered_keeps_its_own_partition_waiting_and_no_other_one() -> None:
    lamp = Lamp()
    other = Lamp(beside=lamp)
    lamp.registry[5] = RegistryUnreachable("500")
    assert lamp.decide(lamp.signal(1), lamp.named(5), lamp.signal(2)) == [Reason.NONE]
    lamp.now_s = 60.0
    assert other.decide(other.named(6)) == []
    assert lamp.answer(other) == (2, 1)
    assert other.decide() == [Reason.UNKNOWN_SCHEMA], "the registry does not know it, and said so"
    for _ in range(3):
        lamp.now_s += 1.1
        assert lamp.answer(other) == (0, 0)
    [(task, wait)] = lamp.question.told.items()
    assert (task, *wait) == ("lamp-0", "id 5", NOW + 60_000, "500")
    [told] = lamp.told.event.mock_calls
    assert (told.kwargs["tasks"], told.kwargs["why"]) == (["lamp-0"], "schema id 5: 500")
    assert "PLACET_REGISTRY__UNKNOWN_IDS" in told.kwargs["what"]
    lamp.registry[5] = json.dumps(contracts(NEWER).signal)
    lamp.now_s += 1.1
    assert lamp.answer(other) == (0, 1)
    assert lamp.decide() == [Reason.NONE, Reason.NONE], "whatever the registry knows in the end is decided"


def test_of_one_partition_what_the_registry_does_not_know_is_refused_up_to_the_id_that_is_never_answered() -> None:
    lamp = Lamp()
    lamp.registry[5] = RegistryUnreachable("500")
    lamp.decide(lamp.named(6), lamp.named(5), lamp.named(6))
    assert lamp.answer() == (1, 1)
    assert lamp.decide() == [Reason.UNKNOWN_SCHEMA]
    lamp.now_s += 1.1
    assert lamp.answer() == (1, 0)


def test_an_id_that_counts_as_unknown_is_refused_and_nobody_is_asked_for_it() -> None:
    lamp = Lamp(unknown_ids=[5])
    lamp.registry[5] = RegistryUnreachable("500")
    lamp.decide(lamp.named(5), lamp.signal(1))
    assert lamp.answer() == (1, 1), "control may have it"
    refused, behind = lamp.decisions()
    assert (refused.reason, refused.detail) == (
        Reason.UNKNOWN_SCHEMA, "schema id 5 counts as unknown: PLACET_REGISTRY__UNKNOWN_IDS"
    )  # fmt: skip
    assert (behind.reason, lamp.asked) == (Reason.NONE, [])


def test_all_ids_that_were_polled_are_asked_for_at_once_and_made_up_ones_keep_no_valid_one() -> None:
    """One round for a thousand made-up ids, not one round for each."""
    lamp = Lamp()
    lamp.registry[7] = json.dumps(contracts(NEWER).signal)
    assert lamp.decide(*map(lamp.named, range(100, 1_100)), lamp.named(7)) == []
    assert lamp.answer() == (1, 1)
    assert sorted(lamp.asked) == [7, *range(100, 1_100)]
    assert lamp.decide() == [Reason.UNKNOWN_SCHEMA] * 1_000 + [Reason.NONE]


def want(texts: SchemaTexts, *schema_ids: int) -> None:
    for schema_id in schema_ids:
        with pytest.raises(UnknownSchema, match=f"does not know the schema id {schema_id}"):
            texts.text_of(schema_id)


def test_ids_without_an_answer_are_asked_for_again_behind_those_that_are_new() -> None:
    lamp = Lamp()
    lamp.registry = dict.fromkeys(range(1, 6), RegistryUnreachable("500"))
    want(lamp.texts, *range(1, 6))
    assert lamp.texts.ask() == dict.fromkeys(range(1, 6), "500"), "an outage, it seems"
    assert len(lamp.asked) == 3
    lamp.registry[9] = '"a schema"'
    want(lamp.texts, 9)
    assert lamp.texts.ask() == dict.fromkeys(range(1, 6), "500")
    assert lamp.texts.text_of(9) == '"a schema"'
    assert set(lamp.asked) == {1, 2, 3, 4, 5, 9}, "each has its turn"
    lamp.registry = dict.fromkeys(range(1, 6), '"mended"')
    assert lamp.texts.ask() == {}
    assert {lamp.texts.text_of(schema_id) for schema_id in range(1, 6)} == {'"mended"'}


def test_a_state_of_an_unknown_schema_is_asked_for_once_and_then_stops_the_task() -> None:
    """A gate of another version wrote it, and the registry did not answer when this gate learned of that version."""
    lamp = Lamp()
    lamp.store.write({state_key(b"l"): b"\x01" + _raw(NOBODYS)})
    assert lamp.decide(lamp.signal(1)) == []
    assert lamp.task.asking.number
    lamp.look()
    lamp.ends[0].set_result(3)
    lamp.look()
    with pytest.raises(UnknownSchema, match=r"lamp\.changelog partition 0"):
        lamp.decide()


def _raw(value: bytes) -> bytes:
    """Return a changelog record as a restore keeps it."""
    return msgspec.msgpack.encode((value, []))


def test_a_deleted_entity_whose_state_is_of_an_unknown_schema_waits_too_and_is_forgotten_later() -> None:
    """Housekeeping meets it: nothing of it is lost, and the task is stopped only once it was asked for."""
    lamp = Lamp()
    key = deleted_key(b"gone")
    lamp.store.write({
        state_key(b"gone"): b"\x01" + _raw(NOBODYS), key: dump_log_time(1), **dict(reminders(1, 1, [key])),
    })  # fmt: skip
    assert lamp.decide(lamp.signal(1)) == [Reason.NONE], "what was decided before is committed"
    assert lamp.task.asking.number
    lamp.look()
    lamp.ends[0].set_result(3)
    assert lamp.look() == (0, 1)
    with pytest.raises(UnknownSchema, match=r"lamp\.changelog partition 0: 'gone' can't be read"):
        lamp.decide(lamp.signal(2))


def test_a_late_answer_is_about_nothing_that_was_met_after_the_question() -> None:
    lamp = Lamp()
    lamp.store.write({state_key(b"l"): b"\x01" + _raw(NOBODYS)})
    assert lamp.decide(NOBODYS) == []
    lamp.look()
    lamp.task.discard()
    assert lamp.decide(lamp.signal(1)) == [], "read again in another cut: now a state has to be asked for"
    lamp.ends[0].set_result(3)
    assert lamp.look() == (0, 0)
    lamp.look()
    assert len(lamp.ends) == 2, "it is asked for"


@pytest.mark.parametrize("control_answers", [True, False])
def test_tasks_whose_schemas_came_go_on_though_others_are_waited_for(control_answers: bool) -> None:
    lamp = Lamp()
    lamp.registry = {7: json.dumps(contracts(NEWER).signal), 5: RegistryUnreachable("500 for one of two")}
    lamp.decide(lamp.named(7), lamp.named(5))
    lamp.look()
    if control_answers:
        lamp.ends[0].set_result(3)
    else:
        lamp.ends[0].set_exception(LogUnreachable("its leader gave no offset"))
    assert lamp.look() == (0, 1)
    assert lamp.decide() == [Reason.NONE], "the other one is refused by nobody yet"
    assert lamp.task.asking.number


def test_a_state_whose_schema_is_never_answered_stops_no_task() -> None:
    lamp = Lamp()
    lamp.registry[5] = RegistryUnreachable("500")
    lamp.store.write({state_key(b"l"): b"\x01" + _raw(lamp.named(5))})
    assert lamp.decide(lamp.signal(1)) == []
    assert lamp.answer() == (1, 0)
    assert lamp.waits() == {"lamp-0": ("id 5 of a state", "500")}


def test_a_question_that_nobody_answers_is_told_after_a_while() -> None:
    lamp = Lamp()
    lamp.decide(NOBODYS)
    lamp.look()
    lamp.now_s = 6.0
    lamp.look()
    assert lamp.events() == ["inputs wait for a schema"]
    assert "no answer for 5 s" in lamp.waits()["lamp-0"][1]
    lamp.ends[0].set_result(4)
    lamp.look()
    assert lamp.waits()["lamp-0"][1].endswith("the control topic from 3 to 4")
    lamp.task.discard()
    lamp.look()
    assert lamp.waits() == {}, "nobody waits any more"


@pytest.mark.parametrize(
    ("code", "body", "unknown"),
    [
        (200, "<html>please log in</html>", False),
        (200, "", False),
        (404, "404 page not found", False),
        (403, '{"error_code": 40301, "message": "not allowed"}', False),
        (500, '{"error_code": 50001, "message": "broken"}', False),
        (404, '{"error_code": 40403, "message": "no such schema"}', True),
        (422, '{"error_code": 42201, "message": "bad id"}', True),
    ],
)
def test_only_a_registrys_own_word_says_that_there_is_no_schema(code: int, body: str, unknown: bool) -> None:
    """A proxy's page says nothing of an id: the input waits."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        registry = Registry(LocalHost(), f"http://127.0.0.1:{server.server_port}", {"max.retries": "0"})
        with pytest.raises(RegistryUnreachable) if not unknown else nullcontext():
            assert registry.find(9) is None
        assert registry.find(1 << 31) is None, "no registry gives such an id"
        server.shutdown()
