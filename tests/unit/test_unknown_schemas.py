"""Inputs of a schema that nobody here knows: whoever may know it is asked before they are refused."""

from __future__ import annotations

import json
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
from placet.schemas.decision import Reason
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
    """A task whose signals are read, and the question about schemas; the registry answers when a test has it answer."""

    def __init__(self, codec: Codec | None = None) -> None:
        self.codec = codec or Codec(LAMP)
        self.store = MemoryStore()
        self.task = Task(TaskId("lamp", 0), TOPICS, "dead", Rules(compile_machine(LAMP), self.codec), self.store, 1)
        self.task.open(None, dict.fromkeys(TOPICS.inputs, 0), Genesis({}, 1, 0, NOW))
        self.now_s = 0.0
        self.control = MagicMock(position=3)
        self.ends: list[Future[int]] = []
        self.outage: PlacetError | None = None
        self.asked = self.known = 0
        self.told = MagicMock()
        host = StagedHost(monotonic_s=lambda: self.now_s, spawn=lambda _name, work: work())
        self.question = SchemaQuestion(host, self.control, self._ask_end, cast("Any", self), self.told)
        self._offset = 0

    def ask(self) -> None:
        self.asked += 1
        if self.outage:
            raise self.outage

    def _ask_end(self) -> Future[int]:
        self.ends.append(Future())
        return self.ends[-1]

    def signal(self, number: int, codec: Codec | None = None) -> bytes:
        return (codec or self.codec).encode_message(Message(Kind.SIGNAL, "lit", f"s-{number}", "l", {}, NOW, NOW))

    def decide(self, *values: bytes) -> list[Reason]:
        """Decide what was left over, and these; commit, and return the reasons."""
        records = [ConsumerRecord(TOPICS.signals, 0, self._offset + n, NOW, b"l", v) for n, v in enumerate(values)]
        self._offset += len(values)
        written = self.task.process(records, NOW, NOW)
        self.task.committed({})
        decisions = [record.value for record in written if record.topic == TOPICS.decisions]
        return [self.codec.decode_decision(value or b"")[0].reason for value in decisions]

    def look(self) -> tuple[int, int]:
        waits, goes_on = self.question.look([self.task])
        return len(waits), len(goes_on)

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


@pytest.mark.parametrize("outage", [RegistryUnreachable("503"), None])
def test_an_outage_delays_the_input_and_refuses_nothing(outage: PlacetError | None) -> None:
    lamp = Lamp()
    lamp.outage = outage
    lamp.decide(NOBODYS)
    for _ in range(3):
        lamp.look()
        if outage is None:
            lamp.ends[-1].set_exception(LogUnreachable("its leader gave no offset"))
        else:
            lamp.ends[-1].set_result(3)
        assert lamp.look() == (0, 0)
        lamp.now_s += 1.1
    assert lamp.events() == ["inputs wait for a schema"], "once, not with each try"
    assert lamp.question.why == ("503" if outage else "its leader gave no offset")
    lamp.outage = None
    lamp.look()
    lamp.ends[-1].set_result(3)
    assert lamp.look() == (0, 1)
    assert lamp.events() == ["inputs wait for a schema", "inputs wait for a schema no longer"]
    assert (lamp.question.why, lamp.decide()) == ("", [Reason.UNKNOWN_SCHEMA])


def test_all_ids_that_were_polled_are_asked_for_at_once_and_made_up_ones_keep_no_valid_one() -> None:
    """One round for a thousand made-up ids, not one round for each."""
    known = {7}
    asked: list[int] = []

    def find(schema_id: int) -> str | None:
        asked.append(schema_id)
        return None if schema_id not in known else contracts_text

    contracts_text = json.dumps(contracts(NEWER).signal)
    texts = SchemaTexts(cast("Any", SimpleNamespace(find=find)))
    wire = Confluent(lambda _role, _schema: 1, lambda _role, schema_id: texts.text_of(schema_id))
    lamp = Lamp(Codec(LAMP, wire))
    body = lamp.signal(1, NEWER_SIGNALS)[10:]
    made_up = [confluent_head(number) + body for number in range(100, 1_100)]
    assert lamp.decide(*made_up, confluent_head(7) + body) == []
    texts.ask()
    assert sorted(asked) == [7, *range(100, 1_100)]
    lamp.look()
    lamp.ends[0].set_result(3)
    lamp.look()
    assert lamp.decide() == [Reason.UNKNOWN_SCHEMA] * 1_000 + [Reason.NONE]


def test_an_id_that_the_registry_was_not_asked_for_stays_wanted() -> None:
    answers: list[Any] = [RegistryUnreachable("503"), '"a schema"']

    def find(_schema_id: int) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    texts = SchemaTexts(cast("Any", SimpleNamespace(find=find)))
    with pytest.raises(UnknownSchema, match="does not know the schema id 4"):
        texts.text_of(4)
    with pytest.raises(RegistryUnreachable):
        texts.ask()
    texts.ask()
    assert texts.text_of(4) == '"a schema"'


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


def test_tasks_whose_schemas_came_go_on_though_others_are_waited_for() -> None:
    lamp = Lamp()
    lamp.outage = RegistryUnreachable("500 for one of two")
    lamp.decide(lamp.signal(1, NEWER_SIGNALS), NOBODYS)
    lamp.known = -1
    lamp.look()
    lamp.known, _ = 0, lamp.codec.learn(contracts(NEWER).signal)
    lamp.ends[0].set_result(3)
    assert lamp.look() == (0, 1)
    assert lamp.decide() == [Reason.NONE], "the other one is refused by nobody yet"
    assert lamp.task.asking.number


def test_a_question_that_nobody_answers_is_told_after_a_while() -> None:
    lamp = Lamp()
    lamp.decide(NOBODYS)
    lamp.look()
    lamp.now_s = 6.0
    lamp.look()
    assert lamp.events() == ["inputs wait for a schema"]
    assert "no answer for 5 s" in lamp.question.why
    lamp.ends[0].set_result(4)
    lamp.look()
    assert lamp.question.why.endswith("the control topic from 3 to 4")
    lamp.task.discard()
    lamp.look()
    assert lamp.question.why == "", "nobody waits any more"


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
