"""Members of a KIP-848 group, as the gate's consumer is one, and what a group's metadata can be made to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import calcsize, pack
from typing import Any, Final

from confluent_kafka import KafkaError, Message
from confluent_kafka import TopicPartition as ClientPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but without __all__
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from placet.streams.kafka.clients import ConsumerCalls
from placet.streams.kafka.membership import membership
from tests.contract.kafka.calls import CALL_S, answer, at, reader
from tests.contract.kafka.under_test import KafkaUnderTest

__all__ = ["GROUP_OPTIONS", "Member", "all_polled_until", "joined", "quick_group", "with_epoch"]

GROUP_OPTIONS: Final = {
    "group.protocol": "consumer",
    "group.remote.assignor": "range",
    "allow.auto.create.topics": False,
}
_EPOCH_AT: Final = len(b"CGMDv2:")


def quick_group(kafka: KafkaUnderTest, session_ms: int = 6_000) -> str:
    """Return the name of a group that talks to each member every 0.3 s, and assigns at once."""
    group = kafka.new_name("group")
    settings = {
        "consumer.session.timeout.ms": str(session_ms),
        "consumer.heartbeat.interval.ms": "300",
        "consumer.assignment.interval.ms": "0",
    }
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    answer(kafka, kafka.admin.incremental_alter_configs([resource], request_timeout=CALL_S)[resource])
    return group


class Member:
    """A member that takes notes in its callbacks and reads nothing, unless told where to start."""

    def __init__(self, kafka: KafkaUnderTest, group: str, topic: str, **options: Any) -> None:
        own = {name.replace("_", "."): value for name, value in options.items()}
        self.owned: set[int] = set()
        self.told: list[tuple[str, list[int]]] = []
        self.errors: list[KafkaError] = []
        self.records: list[Message] = []
        self.consumer: ConsumerCalls = reader(kafka, options={**GROUP_OPTIONS, "group.id": group, **own})
        self._fetched: set[int] = set()
        self._topic = topic
        self.consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def poll(self, timeout_s: float = 0.02) -> None:
        """Poll once; note a record or an error."""
        message = self.consumer.poll(timeout_s)
        error = None if message is None else message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            self.errors.append(error)
        elif message is not None and error is None:
            self.records.append(message)

    def start(self, positions: Mapping[int, int]) -> None:
        """Read these partitions from these positions."""
        self.consumer.incremental_assign([at(self._topic, position, number) for number, position in positions.items()])
        self._fetched |= positions.keys()

    @property
    def metadata(self) -> bytes:
        found: bytes = self.consumer.consumer_group_metadata()
        return found

    @property
    def epoch(self) -> int:
        return membership(self.metadata)[0]

    @property
    def member_id(self) -> str:
        return membership(self.metadata)[1]

    def _assigned(self, consumer: ConsumerCalls, partitions: list[ClientPartition]) -> None:
        consumer.incremental_assign([])
        self._note("assigned", partitions)
        self.owned |= {partition.partition for partition in partitions}

    def _revoked(self, consumer: ConsumerCalls, partitions: list[ClientPartition]) -> None:
        self._given_back("revoked", consumer, partitions)

    def _lost(self, consumer: ConsumerCalls, partitions: list[ClientPartition]) -> None:
        self._given_back("lost", consumer, partitions)

    def _given_back(self, word: str, consumer: ConsumerCalls, partitions: list[ClientPartition]) -> None:
        gone = {partition.partition for partition in partitions}
        consumer.incremental_unassign([at(self._topic, 0, number) for number in sorted(gone & self._fetched)])
        self._note(word, partitions)
        self.owned -= gone
        self._fetched -= gone

    def _note(self, word: str, partitions: list[ClientPartition]) -> None:
        if partitions:  # with none of them it tells only that a rebalance is over
            self.told.append((word, sorted(partition.partition for partition in partitions)))


def all_polled_until(kafka: KafkaUnderTest, members: list[Member], condition: Callable[[], object]) -> None:
    """Let all of these members poll until it holds."""

    def holds() -> bool:
        for member in members:
            member.poll()
        return bool(condition())

    kafka.until(holds)


def joined(kafka: KafkaUnderTest, group: str, topic: str, partitions: int, **options: Any) -> Member:
    """Return a member that has got all partitions."""
    member = Member(kafka, group, topic, **options)
    all_polled_until(kafka, [member], lambda: member.owned == set(range(partitions)))
    return member


def with_epoch(metadata: bytes, epoch: int) -> bytes:
    """Return a group's metadata with another epoch of the member."""
    return metadata[:_EPOCH_AT] + pack("=i", epoch) + metadata[_EPOCH_AT + calcsize("=i") :]
