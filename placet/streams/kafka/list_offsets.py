"""Questions to leaders that nobody waits for: each answer is a future of one plain value."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # exported, but without __all__

from placet.schemas.errors import SettingsError
from placet.streams.kafka.admin_errors import UNREACHABLE, BrokerUnreachable
from placet.streams.kafka.clients import AdminCalls
from placet.streams.records import TopicPartition

__all__ = ["ask_offsets"]


def ask_offsets(
    client: AdminCalls,
    partitions: Iterable[TopicPartition],
    spec: OffsetSpec,
    level: IsolationLevel,
    timeout_s: float,
    least: int = 0,
) -> dict[TopicPartition, Future[int]]:
    """Ask each partition's leader, as it is known now, for its first or last offset.

    Args:
        client: asks.
        partitions: what for.
        spec: which offset.
        level: for the last one: the high watermark, or the last stable offset.
        timeout_s: for how long.
        least: -1 where that is an answer, such as that there is no record of that kind.

    Returns:
        A future for each: an offset, `BrokerUnreachable` or `SettingsError`, within about `timeout_s`.
    """
    asked = {partition: ClientPartition(*partition) for partition in partitions}
    answers: dict[TopicPartition, Future[int]] = {partition: Future() for partition in asked}
    if asked:
        question: dict[ClientPartition, OffsetSpec] = dict.fromkeys(asked.values(), spec)
        found = client.list_offsets(question, isolation_level=level, request_timeout=timeout_s)
        for partition, client_partition in asked.items():
            found[client_partition].add_done_callback(partial(_hand_on_offset, answers[partition], least=least))
    return answers


def _hand_on_offset(answer: Future[int], found: Future[Any], *, least: int = 0) -> None:
    """Hand an answer on. Amid an election the client may give none: an offset of -1001, without an error."""
    error = found.exception()
    if error is None and found.result().offset >= least:
        answer.set_result(found.result().offset)
    elif error is None:
        answer.set_exception(BrokerUnreachable("its leader gave no offset"))
    elif isinstance(error, KafkaException) and error.args[0].code() in UNREACHABLE:
        answer.set_exception(BrokerUnreachable(error.args[0].str()))
    else:
        answer.set_exception(SettingsError(f"The broker refused to list offsets: {error}"))
