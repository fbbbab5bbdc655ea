"""What comes out of a client: messages and errors."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException

__all__ = ["SimulatedMessage", "failure"]


class SimulatedMessage:
    """See `confluent_kafka.Message`: a record, an error, or an end."""

    __slots__ = ("at", "headers_", "key_", "offset_", "on_delivery", "problem", "stamp", "value_", "version")

    def __init__(
        self,
        at: tuple[str, int],
        offset: int | None = None,
        stamp: int = 0,
        key: bytes | None = None,
        value: bytes | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        problem: KafkaError | None = None,
        version: int = 0,
    ) -> None:
        self.at = at
        self.offset_ = offset
        self.stamp = stamp
        self.key_ = key
        self.value_ = value
        self.headers_ = headers
        self.problem = problem
        self.version = version  # of the partition when it was fetched: an older one is dropped
        self.on_delivery: Any = None

    def topic(self) -> str:
        """See `Message`."""
        return self.at[0]

    def partition(self) -> int:
        """See `Message`."""
        return self.at[1]

    def offset(self) -> int | None:
        """See `Message`."""
        return self.offset_

    def timestamp(self) -> tuple[int, int]:
        """See `Message`: the topics have LogAppendTime."""
        return (2, self.stamp)

    def key(self) -> bytes | None:
        """See `Message`."""
        return self.key_

    def value(self) -> bytes | None:
        """See `Message`."""
        return self.value_

    def headers(self) -> list[tuple[str, bytes]] | None:
        """See `Message`."""
        return self.headers_

    def error(self) -> KafkaError | None:
        """See `Message`."""
        return self.problem

    def __len__(self) -> int:
        """See `Message`: the size of the value."""
        return len(self.value_ or b"")


def failure(code: int, why: str = "", *, fatal: bool = False, retriable: bool = False, abortable: bool = False) -> Any:
    """Return what a call raises.

    Args:
        code: of Kafka or librdkafka.
        why: words; by default the code's own.
        fatal: the client is of no use any more.
        retriable: the same call may be made again.
        abortable: the transaction has to be aborted.
    """
    return KafkaException(KafkaError(code, why or None, fatal, retriable, abortable))
