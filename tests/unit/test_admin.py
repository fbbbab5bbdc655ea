"""Answers of leaders: an offset, or what is the matter."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from confluent_kafka import KafkaError, KafkaException

from placet.schemas.errors import SettingsError
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.admin_errors import BrokerUnreachable
from placet.streams.kafka.questions import _handed_on, _offset_of, ask_topic_ids
from tests.staged import StagedHost


def handed_on(result: int | Exception) -> Future[int]:
    found: Future[Any] = Future()
    if isinstance(result, int):
        found.set_result(SimpleNamespace(offset=result))
    else:
        found.set_exception(result)
    return _handed_on(found, _offset_of, "list offsets")


@pytest.mark.parametrize("offset", [0, 7])
def test_an_offset_is_an_answer(offset: int) -> None:
    assert handed_on(offset).result() == offset


def test_no_offset_amid_an_election_is_no_answer() -> None:
    """Taken for one, it would make every store look as if it were ahead of the log, and be set aside."""
    with pytest.raises(BrokerUnreachable, match="gave no offset"):
        handed_on(-1001).result()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (KafkaError._TIMED_OUT, BrokerUnreachable),
        (KafkaError.NOT_LEADER_FOR_PARTITION, BrokerUnreachable),
        (KafkaError.KAFKA_STORAGE_ERROR, BrokerUnreachable),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, SettingsError),
    ],
)
def test_an_error_is_handed_on_as_what_it_means(code: int, told: type[Exception]) -> None:
    with pytest.raises(told):
        handed_on(KafkaException(KafkaError(code))).result()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (KafkaError._TIMED_OUT, BrokerUnreachable),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, BrokerUnreachable),  # perhaps not known to this broker yet
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, SettingsError),
    ],
)
def test_the_ids_of_topics_are_asked_for_without_waiting(code: int, told: type[Exception]) -> None:
    client, known, unknown = MagicMock(), Future[Any](), Future[Any]()
    client.describe_topics.return_value = {"known": known, "unknown": unknown}
    answers = ask_topic_ids(client, ["known", "unknown"], 1.0)
    assert not any(answer.done() for answer in answers.values())
    known.set_result(SimpleNamespace(topic_id="an id"))
    unknown.set_exception(KafkaException(KafkaError(code)))
    assert answers["known"].result() == "an id"
    with pytest.raises(told):
        answers["unknown"].result()


@pytest.mark.parametrize("asked", [KafkaException(KafkaError(KafkaError._TRANSPORT)), Future()])
def test_a_connection_that_is_tried_in_vain_is_no_failure(asked: Exception | Future[Any]) -> None:
    """What is asked for afterwards says it, with a limit of its own."""
    client = MagicMock()
    client.describe_cluster.side_effect = [asked]
    Admin(StagedHost(client=client), {"bootstrap.servers": "nowhere:1"}, timeout_s=0.05).connect()
    client.describe_cluster.assert_called_once()
