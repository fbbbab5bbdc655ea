"""The calls of Kafka's client that a gate uses, and no other: what a client of a simulation has to do as well.

Data is the client's own (`TopicPartition`, `KafkaError`, `Message`, what the admin's futures hold); so are the errors:
a call raises `KafkaException` or, where the binding trips over one, `SystemError` (see `client_errors`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Literal, Protocol

from confluent_kafka import Message
from confluent_kafka import TopicPartition as ClientPartition

from placet.streams.runtime import Runtime

__all__ = ["AdminCalls", "Clients", "ConsumerCalls", "ProducerCalls"]


class ConsumerCalls(Protocol):
    """`confluent_kafka.Consumer`. Positions and errors are those of librdkafka 2.16."""

    def subscribe(
        self,
        topics: list[str],
        on_assign: Callable[[Any, list[ClientPartition]], None] | None = None,
        on_revoke: Callable[[Any, list[ClientPartition]], None] | None = None,
        on_lost: Callable[[Any, list[ClientPartition]], None] | None = None,
    ) -> None:
        """Join the group. Callbacks come in `poll`, `consume` and `close`."""
        ...

    def poll(self, timeout: float, /) -> Message | None:
        """Wait for a message, an error of a partition or an end; serve callbacks."""
        ...

    def consume(self, num_messages: int, timeout: float, /) -> list[Message]:
        """Take several messages; serve callbacks."""
        ...

    def consumer_group_metadata(self) -> Any:
        """Return the membership, as opaque bytes."""
        ...

    def assign(self, partitions: list[ClientPartition], /) -> None:
        """Read these partitions and no others."""
        ...

    def unassign(self) -> None:
        """Read nothing."""
        ...

    def incremental_assign(self, partitions: list[ClientPartition], /) -> None:
        """Read these partitions too; acknowledges an assignment."""
        ...

    def incremental_unassign(self, partitions: list[ClientPartition], /) -> None:
        """Read these partitions no longer; acknowledges a revocation."""
        ...

    def pause(self, partitions: list[ClientPartition], /) -> None:
        """Fetch these no longer. A pause outlives unassign and assign."""
        ...

    def resume(self, partitions: list[ClientPartition], /) -> None:
        """Fetch these again. No-op for one that is not paused."""
        ...

    def seek(self, partition: ClientPartition, /) -> None:
        """Read on from another offset."""
        ...

    def committed(self, partitions: list[ClientPartition], timeout: float = ...) -> list[ClientPartition]:
        """Ask for the group's stable positions."""
        ...

    def commit(self, *, offsets: list[ClientPartition], asynchronous: Literal[False]) -> Any:
        """Store the group's positions."""
        ...

    def get_watermark_offsets(
        self,
        partition: ClientPartition,
        timeout: float = ...,
        cached: bool = ...,  # noqa: FBT001 - the client's own
    ) -> Any:
        """Return a partition's first offset and its end, asked for or as last heard."""
        ...

    def list_topics(self, topic: str, timeout: float, /) -> Any:
        """Ask for a topic's metadata, and keep it up to date from then on."""
        ...

    def close(self) -> None:
        """Leave the group, serve its last callbacks, end. May block for longer than any timeout."""
        ...


class ProducerCalls(Protocol):
    """`confluent_kafka.Producer`. Delivery reports come in `poll` and `flush`, and in transactions' calls."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: Callable[[Any, Message], None] | None,
        callback: None = ...,
        timestamp: int = ...,
        headers: Any = ...,
        /,
    ) -> None:
        """Queue a record; `BufferError` where the queue is full."""
        ...

    def poll(self, timeout: float, /) -> int:
        """Serve delivery reports and errors."""
        ...

    def flush(self, timeout: float, /) -> int:
        """Wait for all deliveries; return how many are missing."""
        ...

    def purge(self) -> None:
        """Drop what is queued or under way."""
        ...

    def __len__(self) -> int:
        """How many records and reports wait."""
        ...

    def init_transactions(self, timeout: float, /) -> None:
        """Fence earlier producers of the transactional id; end what they left."""
        ...

    def begin_transaction(self) -> None:
        """Open a transaction."""
        ...

    def send_offsets_to_transaction(self, positions: list[ClientPartition], metadata: Any, timeout: float, /) -> None:
        """Add the group's positions. Ignores its timeout."""
        ...

    def commit_transaction(self, timeout: float, /) -> None:
        """Commit. A timeout does not tell whether it did."""
        ...

    def abort_transaction(self, timeout: float, /) -> None:
        """Abort."""
        ...


class AdminCalls(Protocol):
    """`confluent_kafka.admin.AdminClient`. Futures end within `request_timeout` seconds, in the client's thread."""

    def describe_cluster(self, *, request_timeout: float) -> Future[Any]:
        """Ask for the cluster's id and brokers."""
        ...

    def describe_topics(self, topics: Any, /, *, request_timeout: float) -> dict[str, Future[Any]]:
        """Ask for topics, with their ids, leaders and replicas."""
        ...

    def create_topics(
        self, topics: list[Any], /, *, operation_timeout: float, request_timeout: float
    ) -> dict[str, Future[Any]]:
        """Create topics."""
        ...

    def describe_configs(self, resources: list[Any], /, *, request_timeout: float) -> dict[Any, Future[Any]]:
        """Ask for settings of topics, brokers or groups."""
        ...

    def incremental_alter_configs(self, resources: list[Any], /, *, request_timeout: float) -> dict[Any, Future[Any]]:
        """Change some settings."""
        ...

    def list_offsets(
        self, partitions: dict[ClientPartition, Any], /, *, isolation_level: Any, request_timeout: float
    ) -> dict[ClientPartition, Future[Any]]:
        """Ask leaders for first or last offsets."""
        ...

    def describe_consumer_groups(self, group_ids: list[str], /, *, request_timeout: float) -> dict[str, Future[Any]]:
        """Ask a group's coordinator for its members."""
        ...

    def list_topics(self, topic: str, timeout: float, /) -> Any:
        """Ask for a topic's metadata, and wait for it."""
        ...

    def poll(self, timeout: float, /) -> int:
        """Serve `error_cb`."""
        ...

    def __exit__(self, *_: Any) -> Any:
        """End the client."""
        ...


class Clients(Runtime, Protocol):
    """Makes clients, by librdkafka's options. Each raises `KafkaException` where it refuses them."""

    def consumer(self, options: Mapping[str, Any], /) -> ConsumerCalls:
        """Make a consumer."""
        ...

    def producer(self, options: Mapping[str, Any], /) -> ProducerCalls:
        """Make a producer."""
        ...

    def admin(self, options: Mapping[str, Any], /) -> AdminCalls:
        """Make an admin client."""
        ...
