"""Questions that nobody waits for: each answer is a future of one plain value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but without __all__
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from placet.streams.kafka.admin_errors import ABSENT, UNREACHABLE, BrokerUnreachable, UnknownTopic, refusal
from placet.streams.kafka.clients import AdminCalls
from placet.streams.kafka.cluster import TopicInfo, configs_of, topic_info
from placet.streams.records import TopicPartition

__all__ = ["Insisting", "ask_configs", "ask_offsets", "ask_topics"]

Answer = TypeVar("Answer")
_Ask = Callable[[list[TopicPartition]], dict[TopicPartition, "Future[int]"]]
_AGAIN_AFTER_S: Final = 0.5
_AFTER_REFUSAL_S: Final = 0.2
"""One that was just elected refuses for a moment."""
_IN_VAIN_S: Final = 4.0


def ask_offsets(
    client: AdminCalls,
    partitions: Iterable[TopicPartition],
    spec: OffsetSpec,
    level: IsolationLevel,
    timeout_s: float,
    least: int = 0,
) -> dict[TopicPartition, Future[int]]:
    """Ask each partition's leader, as it is known now, for its first or last offset.

    Where the client does not know a leader, it has this question wait for news of leaders, and goes on to write in it.
    News that come in these microseconds, such as the answer to another question, let the client's main thread answer
    and free it meanwhile: a segmentation fault, seen in a restore (librdkafka 2.16, in
    `rd_kafka_topic_partition_list_query_leaders_async_worker`). So a client is to know the leaders: `Admin.connect`.

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
    if not asked:
        return {}
    question: dict[ClientPartition, OffsetSpec] = dict.fromkeys(asked.values(), spec)
    found = client.list_offsets(question, isolation_level=level, request_timeout=timeout_s)
    offset_of = partial(_offset_of, least=least)
    return {
        partition: _handed_on(found[client_partition], offset_of, "list offsets")
        for partition, client_partition in asked.items()
    }


def ask_topics(client: AdminCalls, topics: Iterable[str], timeout_s: float) -> dict[str, Future[TopicInfo]]:
    """Ask a broker for topics as they are now, all in one request: one that was deleted and made again has another id.

    Args:
        client: asks.
        topics: their names.
        timeout_s: for how long.

    Returns:
        A future for each: the topic without its settings, `BrokerUnreachable` or `SettingsError`, within about
        `timeout_s`. A topic that a broker does not know (`UnknownTopic`) may be one that it does not know yet.
    """
    found = client.describe_topics(TopicCollection(list(topics)), request_timeout=timeout_s)
    return {
        name: _handed_on(described, _topic_of, f"describe topic {name}", _NOT_NOW_OR_ABSENT)
        for name, described in found.items()
    }


class Insisting:
    """Asks leaders again while no answer comes, beside the question before: the first answer counts.

    A leader that fell silent holds its question until that times out; meanwhile another one may be elected, and nothing
    sends the question there. One that is only slow answers in the end.

    Args:
        monotonic_s: a clock.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._open: list[_Open] = []

    def ask(self, ask: _Ask, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Future[int]]:
        """Ask for one offset of each partition.

        Returns:
            A future for each: an offset, `BrokerUnreachable` after `_IN_VAIN_S`, or another error at once.
        """
        answers: dict[TopicPartition, Future[int]] = {partition: Future() for partition in partitions}
        asked = _Open(ask, answers, self._monotonic_s() + _IN_VAIN_S)
        asked.begin(self._monotonic_s())
        self._open.append(asked)
        return answers

    def again(self) -> None:
        """Ask again where it is time to; called again and again."""
        now_s = self._monotonic_s()
        self._open = [asked for asked in self._open if asked.waiting()]
        for asked in self._open:
            if now_s >= asked.until_s:
                asked.give_up()
            elif now_s >= asked.again_at_s or (asked.refused and now_s >= asked.asked_at_s + _AFTER_REFUSAL_S):
                asked.begin(now_s)


class _Open:
    """A question with partitions that no leader has answered for."""

    def __init__(self, ask: _Ask, answers: dict[TopicPartition, Future[int]], until_s: float) -> None:
        self.until_s = until_s
        self.asked_at_s = self.again_at_s = 0.0
        self.refused: BrokerUnreachable | None = None
        self._ask = ask
        self._answers = answers

    def waiting(self) -> list[TopicPartition]:
        return [partition for partition, answer in self._answers.items() if not answer.done()]

    def begin(self, now_s: float) -> None:
        self.asked_at_s, self.again_at_s, self.refused = now_s, now_s + _AGAIN_AFTER_S, None
        for partition, found in self._ask(self.waiting()).items():
            found.add_done_callback(partial(self._take, self._answers[partition]))

    def give_up(self) -> None:
        error = self.refused or BrokerUnreachable("its leader does not answer")
        for partition in self.waiting():
            with suppress(InvalidStateError):  # answered in this moment
                self._answers[partition].set_exception(error)

    def _take(self, answer: Future[int], found: Future[int]) -> None:
        error = found.exception()
        if isinstance(error, BrokerUnreachable):
            self.refused = error
            return
        with suppress(InvalidStateError):  # the other question was answered before, or nobody waits any more
            if error is None:
                answer.set_result(found.result())
            else:
                answer.set_exception(error)


def ask_configs(client: AdminCalls, topics: Iterable[str], timeout_s: float) -> dict[str, Future[dict[str, str]]]:
    """Ask a broker for all settings of topics, in one request. Returns as `ask_topics` does."""
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
    found = client.describe_configs(asked, request_timeout=timeout_s) if asked else {}  # of nothing it raises
    return {
        one.name: _handed_on(found[one], configs_of, f"describe the settings of {one.name}", _NOT_NOW_OR_ABSENT)
        for one in asked
    }


_NOT_NOW: Final[Mapping[int, type[BrokerUnreachable]]] = dict.fromkeys(UNREACHABLE, BrokerUnreachable)
_NOT_NOW_OR_ABSENT: Final = {**_NOT_NOW, **dict.fromkeys(ABSENT, UnknownTopic)}


def _handed_on(
    found: Future[Any],
    value_of: Callable[[Any], Answer | BrokerUnreachable],
    what: str,
    again: Mapping[int, type[BrokerUnreachable]] = _NOT_NOW,
) -> Future[Answer]:
    """Return the future of a plain value.

    Args:
        found: the client's future.
        value_of: the value in what it holds, or that there is none now.
        what: was asked, for people.
        again: codes of errors after which it can be asked again, each with what it means.
    """
    answer: Future[Answer] = Future()

    def hand_on(found: Future[Any]) -> None:
        error = found.exception()
        if error is None:
            value = value_of(found.result())
            if not isinstance(value, BrokerUnreachable):
                answer.set_result(value)
                return
            error = value
        elif isinstance(error, KafkaException):
            reason = error.args[0]
            not_now = again.get(reason.code())
            error = not_now(f"{what}: {reason.str()}") if not_now else refusal(reason, what)
        answer.set_exception(error)

    found.add_done_callback(hand_on)
    return answer


def _offset_of(found: Any, *, least: int = 0) -> int | BrokerUnreachable:
    """Amid an election the client may give none: an offset of -1001, without an error."""
    offset: int = found.offset
    return offset if offset >= least else BrokerUnreachable("its leader gave no offset")


def _topic_of(found: Any) -> TopicInfo:
    return topic_info(found.topic_id, found.partitions, {})
