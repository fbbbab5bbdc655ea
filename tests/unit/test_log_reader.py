"""A reader's first question, where the broker that it goes to stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from placet.streams.errors import LogUnreachable
from placet.streams.host import LocalHost
from placet.streams.kafka.log_reader import reader_client
from placet.streams.runtime import Spawned


class AskingOneAfterAnother(LocalHost):
    """A machine whose consumers ask another broker each time; the first ones are stopped."""

    def __init__(self, stopped: int) -> None:
        self.stopped = stopped
        self.asked_s = list[float]()
        self.closed = 0

    def consumer(self, options: Any, /) -> Any:
        return self

    def list_topics(self, _topic: str, timeout_s: float) -> None:
        self.asked_s.append(timeout_s)
        if len(self.asked_s) <= self.stopped:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def close(self) -> None:
        self.closed += 1

    def spawn(self, name: str, work: Callable[[], None], /) -> Spawned:
        work()
        return cast("Spawned", None)


def test_a_broker_that_stops_is_not_the_only_one_that_is_asked() -> None:
    host = AskingOneAfterAnother(stopped=2)
    reader_client(host, {}, ["orders"])
    assert (len(host.asked_s), host.closed) == (3, 0)


def test_where_no_broker_answers_the_client_is_closed_and_it_is_said_within_eleven_seconds() -> None:
    host = AskingOneAfterAnother(stopped=99)
    with pytest.raises(LogUnreachable, match="metadata"):
        reader_client(host, {}, ["orders", "others"])
    assert sum(host.asked_s) <= 11
    assert host.closed == 1
