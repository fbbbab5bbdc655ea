"""The end of a transactional producer that is thrown away: its open transaction is aborted, its threads go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from placet.streams.kafka.client_errors import kafka_errors_ignored
from placet.streams.kafka.clients import ProducerCalls
from placet.streams.runtime import Runtime, Spawned

__all__ = ["discard"]


def discard(runtime: Runtime, producer: ProducerCalls, left_behind: Spawned | None, timeout_s: float) -> None:
    """Abort and end a producer, in a thread of its own: that takes as long as its last call, or an absent broker.

    Args:
        runtime: starts the thread.
        producer: nobody else may refer to it any more.
        left_behind: a call that still uses the producer, and is waited for.
        timeout_s: of the abort.
    """
    runtime.spawn("discard a producer", partial(_discard, producer, left_behind, timeout_s))


def _discard(producer: ProducerCalls, left_behind: Spawned | None, timeout_s: float) -> None:
    """The work of `discard`.

    Python ends a producer when nothing refers to it any more. Delivery reports do until they are served; so does, for
    good, an exception in flight while confluent-kafka raises another one. Hence the thread: nothing is in flight here.
    Any of the calls may be where librdkafka tells that the producer was fenced; reports then wait for the next poll.
    After a commit that timed out an abort is refused: what is left open ends with the next start of the same id, or by
    its timeout.
    """
    if left_behind is not None:
        left_behind.join()
    last_calls: tuple[Callable[[], object], ...] = (
        producer.purge,
        lambda: producer.abort_transaction(timeout_s),
        lambda: producer.poll(0),
        lambda: producer.poll(0),
    )
    for call in last_calls:
        with kafka_errors_ignored():
            call()
