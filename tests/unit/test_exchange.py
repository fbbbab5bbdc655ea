"""The client's thread with Kafka taken away: in which order things happen, and what a failure becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from placet.client import DecisionTimeout, NotConnected, NotDelivered
from placet.client.answers import Answers
from placet.client.changes import ChangelogMember
from placet.client.compose import Composer
from placet.client.exchange import Exchange, Sent
from placet.client.mirror import Mirror
from placet.client.snapshot import Snapshot
from placet.client.sync import Call, Proposal
from placet.processors.address import partition_of
from placet.schemas.codec.codec import Codec
from placet.schemas.definition.model import parse_definition
from placet.schemas.messages import Message
from placet.streams.errors import LogUnreachable
from placet.streams.records import ConsumerRecord, ProducerRecord, RecordId, TopicPartition
from placet.streams.settings import load_settings
from placet.streams.topology import entity_topics

RULES = parse_definition("""
entity: lamp
version: 1
statuses: [dark]
signals: {made: {from: absent, to: dark}}
proposals: {clean: {from: dark}}
""")

PLACE = RecordId("app.lamp.proposals", 0, 3)


class Kafka:
    """Admin, reader and producer at once: they note what is asked of them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.reports: list[Callable[[str, RecordId | None], None]] = []
        self.away = False

    def earliest_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        self.calls.append("beginnings")
        return self.latest_offsets(partitions)

    def latest_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        if self.away:
            raise LogUnreachable("nobody there")
        self.calls.append("ends")
        return dict.fromkeys(partitions, 7)

    def follow_also(self, positions: Mapping[TopicPartition, int]) -> None:
        (topic,) = {partition.topic for partition in positions}
        self.calls.append(f"follow {topic} from {set(positions.values())}")

    def leave(self, partitions: Iterable[TopicPartition]) -> None:
        self.calls.append(f"leave {sorted(partition.partition for partition in partitions)}")

    def send(self, record: ProducerRecord, done: Callable[[str, RecordId | None], None]) -> None:
        self.calls.append(f"send to {record.topic}")
        self.reports.append(done)


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
def exchange(kafka: Kafka) -> Exchange:
    """An exchange as it is once it is connected; its thread is this test."""
    made: Any = Exchange(load_settings({}), RULES, 0)
    made.link = SimpleNamespace(topics=entity_topics("app", "lamp"), partitions=2, definition=RULES)
    made.answers = Answers(Codec(RULES))
    made._admin = made._reader = made._producer = kafka
    return made  # type: ignore[no-any-return]


def proposal(proposal_id: str) -> Message:
    composer = Composer(RULES, Codec(RULES))
    return composer.proposal(Snapshot("l-1"), "clean", None, 5, proposal_id=proposal_id, dedup_key=proposal_id)


def sent(exchange: Exchange, proposal_id: str) -> Proposal:
    message = proposal(proposal_id)
    return Proposal(Call(message, exchange.send(message, b"", [], answered=True)))


def test_the_reader_is_positioned_before_the_first_proposal_is_sent(exchange: Exchange, kafka: Kafka) -> None:
    sent(exchange, "p-1")
    sent(exchange, "p-2")
    assert kafka.calls == []  # it never waits in the caller's thread
    exchange._meet_requests()
    sent(exchange, "p-3")
    assert kafka.calls == ["ends", "follow app.lamp.decisions from {7}", *["send to app.lamp.proposals"] * 3]


@pytest.mark.parametrize("away", [False, True], ids=["it slept", "no broker answered"])
def test_a_client_that_missed_half_a_day_reads_its_states_anew(
    exchange: Exchange, kafka: Kafka, monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    """What was deleted meanwhile has no tombstone any more: it would live on in its view for ever."""
    now_s = [1e9]
    monkeypatch.setattr("placet.client.exchange.time", lambda: now_s[0])
    mirror = exchange.mirror = Mirror(RULES, Codec(RULES), 2, exchange._request_load)
    exchange._keep_up()
    first = mirror.read("l-1", 0)
    exchange._meet_requests()
    partition = partition_of(b"l-1", 2)
    mirror.take(ConsumerRecord("app.lamp.changelog", partition, 0, 0, b"gone", b"a state", []))
    mirror.reached_end(partition)
    assert first.result(0).version == 0
    exchange._away = away
    for hours in (6, 5):
        now_s[0] += hours * 3_600
        exchange._keep_up()
    assert kafka.calls == ["beginnings", "ends", "follow app.lamp.changelog from {7}"]
    now_s[0] += (2 if away else 13) * 3_600
    exchange._keep_up()
    exchange._meet_requests()
    assert kafka.calls[3:] == [f"leave [{partition}]", "beginnings", "ends", "follow app.lamp.changelog from {7}"]
    assert mirror.newest("gone").version == 0
    again = mirror.read("l-1", 0)
    assert not again.done(), "it waits until all is read again"
    mirror.reached_end(partition)
    assert again.result(0).version == 0


def test_a_signal_needs_no_reader(exchange: Exchange, kafka: Kafka) -> None:
    message = Composer(RULES, Codec(RULES)).signal("l-1", "made", None, 5, signal_id="s")
    found = exchange.send(message, b"", [], answered=False)
    assert kafka.calls == ["send to app.lamp.signals"]
    assert found == Sent(found.durable, None)
    assert not found.durable.done()
    kafka.reports[0]("", PLACE)
    assert found.durable.result(0) is None


def test_what_is_not_confirmed_fails_those_who_wait(exchange: Exchange, kafka: Kafka) -> None:
    waiting = sent(exchange, "p-1")
    exchange._meet_requests()
    kafka.reports[0]("message timed out", None)
    for wait in (waiting.durable, waiting.decision):
        with pytest.raises(NotDelivered, match=r"message timed out.*same id and key is safe"):
            wait(0)


def test_two_proposals_of_one_id_have_an_answer_each(exchange: Exchange, kafka: Kafka) -> None:
    one, other = sent(exchange, "p-1"), sent(exchange, "p-1")
    exchange._meet_requests()
    kafka.reports[0]("", PLACE)
    kafka.reports[1]("message timed out", None)
    assert one.durable(0) is None
    with pytest.raises(NotDelivered):
        other.decision(0)
    with pytest.raises(DecisionTimeout):
        one.decision(0)
    assert len(exchange.answers) == 1


def test_a_proposal_that_the_queue_has_no_room_for_is_not_waited_for(
    exchange: Exchange, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise LogUnreachable("the queue is full")

    exchange._answering = True
    monkeypatch.setattr(kafka, "send", full)
    with pytest.raises(LogUnreachable):
        sent(exchange, "p-1")
    exchange._meet_requests()
    assert len(exchange.answers) == 0


def test_a_broker_that_is_away_fails_the_proposal_and_not_the_client(exchange: Exchange, kafka: Kafka) -> None:
    kafka.away = True
    first = sent(exchange, "p-1")
    exchange._meet_requests()
    with pytest.raises(NotDelivered, match="nobody there"):
        first.decision(0)
    kafka.away = False
    sent(exchange, "p-2")
    exchange._meet_requests()
    assert kafka.calls[-1] == "send to app.lamp.proposals"


def test_who_waits_too_long_is_told_that_a_repeat_is_safe(exchange: Exchange) -> None:
    waiting = sent(exchange, "p-1")
    with pytest.raises(DecisionTimeout, match=r"`clean` \(p-1\) of l-1 within 0 s\..*is safe") as late:
        waiting.decision(0)
    assert late.value.input_id == "p-1"
    with pytest.raises(NotDelivered, match="not confirmed within 0 s"):
        waiting.durable(0)


def test_an_exchange_that_ended_says_why(exchange: Exchange) -> None:
    exchange._ended = NotConnected("it was closed")
    with pytest.raises(NotConnected, match="the client has ended: it was closed"):
        sent(exchange, "p-1")


def test_a_partition_that_can_not_be_asked_for_is_asked_for_again_in_the_next_turn(
    exchange: Exchange, kafka: Kafka
) -> None:
    kafka.away = True
    exchange._request_load(1)
    exchange._meet_requests()
    exchange._meet_requests()
    assert kafka.calls == ["beginnings"] * 2, "once a turn: between two the thread does its other work"
    kafka.away = False
    exchange._meet_requests()
    assert kafka.calls[2:] == ["beginnings", "ends", "follow app.lamp.changelog from {7}"]
    assert exchange._requests.empty()


def test_a_partition_that_can_not_be_asked_for_does_not_keep_the_client_from_ending(
    exchange: Exchange, kafka: Kafka
) -> None:
    kafka.away = True
    exchange._request_load(1)
    exchange.end()
    exchange._meet_requests()
    assert exchange._requests.empty()


def test_an_outage_is_told_once_when_it_is_over(
    exchange: Exchange, kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    sent(exchange, "p-1")
    sent(exchange, "p-2")
    exchange._meet_requests()
    for name in ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_ALL_BROKERS_DOWN"):
        exchange._lost(SimpleNamespace(name=lambda name=name: name))
    kafka.reports[0]("", PLACE)
    kafka.reports[1]("", PLACE._replace(offset=4))
    assert caplog.messages == ["Kafka answers again"]
    exchange._lost(SimpleNamespace(name=lambda: "_ALL_BROKERS_DOWN"))
    exchange._found()
    assert caplog.messages == ["Kafka answers again"], "the other client was still on its way back: the same outage"
    exchange._found_at_s -= 11
    exchange._lost(SimpleNamespace(name=lambda: "_ALL_BROKERS_DOWN"))
    exchange._found()
    assert caplog.messages == ["Kafka answers again"] * 2


def test_a_client_that_is_closed_while_the_broker_is_away_tries_once_and_not_for_each(
    exchange: Exchange, kafka: Kafka
) -> None:
    waiting = [sent(exchange, f"p-{n}") for n in range(3)]
    exchange.end()
    kafka.away = True
    exchange._meet_requests()
    kafka.away = False
    for proposal, says in zip(waiting, ("nobody there", "was closed", "was closed"), strict=True):
        with pytest.raises(NotDelivered, match=says):
            proposal.decision(0)
    assert kafka.calls == []


def test_what_was_proposed_before_the_end_is_sent(exchange: Exchange, kafka: Kafka) -> None:
    sent(exchange, "p-1")
    exchange.end()
    exchange._meet_requests()
    assert kafka.calls[-1] == "send to app.lamp.proposals"


def test_a_reader_of_changes_is_not_closed_in_the_midst_of_a_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka would crash: a task that follows changes is cancelled while another thread polls for it."""
    began, go_on, calls = Event(), Event(), []

    def poll_batch(_records_max: int, _timeout_ms: int) -> list[Any]:
        began.set()
        assert go_on.wait(10)
        calls.append("polled")
        return []

    member = SimpleNamespace(
        poll_batch=poll_batch, close=lambda: calls.append("closed"), commit=lambda _positions: True
    )
    monkeypatch.setattr("placet.client.changes.GroupReader", lambda *_: member)
    exchange: Any = SimpleNamespace(link=SimpleNamespace(topics=entity_topics("app", "lamp")))
    reader = ChangelogMember(load_settings({}), exchange, "group", 10)
    with ThreadPoolExecutor(2) as threads:
        polling = threads.submit(reader.poll)
        assert began.wait(10)
        closing = threads.submit(reader.close)
        assert calls == []
        go_on.set()
        assert (polling.result(10), closing.result(10)) == (None, None)
    assert calls == ["polled", "closed"]
    assert reader.poll() is None
    with pytest.raises(NotConnected, match="gets it again"):
        reader.commit({})
