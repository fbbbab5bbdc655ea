"""Ask for the ids of topics without waiting: a topic that was deleted and made again has another one."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from confluent_kafka import KafkaException, TopicCollection

from placet.streams.kafka.admin_errors import ABSENT, UNREACHABLE, BrokerUnreachable, refusal
from placet.streams.kafka.clients import AdminCalls

__all__ = ["ask_topic_ids"]


def ask_topic_ids(client: AdminCalls, topics: Iterable[str], timeout_s: float) -> dict[str, Future[str]]:
    """Ask a broker for the ids of topics.

    Args:
        client: asks.
        topics: their names.
        timeout_s: for how long.

    Returns:
        A future for each: an id, `BrokerUnreachable` or `SettingsError`, within about `timeout_s`.
    """
    asked = client.describe_topics(TopicCollection(list(topics)), request_timeout=timeout_s)
    answers: dict[str, Future[str]] = {name: Future() for name in asked}
    for name, found in asked.items():
        found.add_done_callback(partial(_hand_on, answers[name], name))
    return answers


def _hand_on(answer: Future[str], name: str, found: Future[Any]) -> None:
    """Hand an answer on. A topic that a broker does not know may be one that it does not know yet."""
    error = found.exception()
    if error is None:
        answer.set_result(str(found.result().topic_id))
    elif isinstance(error, KafkaException) and error.args[0].code() in UNREACHABLE | ABSENT:
        answer.set_exception(BrokerUnreachable(f"{name}: {error.args[0].str()}"))
    elif isinstance(error, KafkaException):
        answer.set_exception(refusal(error.args[0], f"describe topic {name}"))
    else:
        answer.set_exception(error)
