"""Kafka's consumer as the member of the gate's group.

Rules that this module keeps (each has lost somebody's data): callbacks only take notes and never raise; any exception
out of a poll means a new consumer, because messages already taken from librdkafka are gone; group metadata is taken
right after the poll it belongs to and refused when empty, because a broker does not check an empty member.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

from confluent_kafka import KafkaError, Message
from confluent_kafka import TopicPartition as ClientPartition

from placet.streams.errors import TaskMigrated
from placet.streams.kafka.client_errors import CLIENT_ERRORS, kafka_errors_as, kafka_errors_ignored, kafka_reason
from placet.streams.kafka.clients import Clients, ConsumerCalls
from placet.streams.kafka.membership import membership, names_a_member
from placet.streams.kafka.poll_errors import OUT_OF_RANGE, partition_of, records_of, what_is_there
from placet.streams.records import ConsumerRecord, TopicPartition
from placet.streams.runtime import Runtime

__all__ = ["GroupConsumer"]

_HELD_TIMEOUT_S: Final = 2.0
_SEEK_PAUSES_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class GroupConsumer:
    """The member of the gate's consumer group, under KIP-848 with the server-side range assignor.

    The group's assignment is acknowledged, and nothing is fetched: the client gets a partition only when `start` names
    the position that the ledger says. Given to it before, at any position and paused, a fetch may win against the
    pause, and ask for what retention has removed.

    Args:
        clients: makes the client.
        options: librdkafka's options, complete.
        topics: all input topics.
    """

    def __init__(self, clients: Clients, options: Mapping[str, object], topics: Sequence[str]) -> None:
        self.assigned: set[TopicPartition] = set()
        self._fetched: set[TopicPartition] = set()  # what the client was given
        self._flowing: set[TopicPartition] = set()  # and reads for us
        self._paused: set[TopicPartition] = set()
        self._broken: set[TopicPartition] = set()  # the client reads on only when it is given them anew
        self._out_of_range: set[TopicPartition] = set()
        self._revoked: set[TopicPartition] = set()
        self._ends: dict[TopicPartition, int] = {}
        self._metadata: bytes = b""
        self._runtime: Runtime = clients
        self._consumer = clients.consumer(options)
        with kafka_errors_as(TaskMigrated, "joining the group"):
            self._consumer.subscribe(list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke,
                                     on_lost=self._on_revoke)  # fmt: skip

    def poll_batch(self, records_max: int, timeout_ms: int) -> list[ConsumerRecord]:
        """Wait for the first record, then take what is there: a batch costs no added latency.

        Raises:
            TaskMigrated: the group moved on without us, or the poll failed: this consumer is not to be used again.
            FatalError: going on would need an operator.
        """
        with kafka_errors_as(TaskMigrated, "polling failed"):
            first = self._consumer.poll(timeout_ms / 1000)
            messages = [first] if first is not None else []
            if messages and records_max > 1:
                messages += what_is_there(self._consumer, records_max - 1)
            self._metadata = self._consumer.consumer_group_metadata()
        ends: list[Message] = []
        records = records_of(messages, ends, self._noted)
        for end in ends:
            self._ends[partition_of(end)] = end.offset() or 0
        return records

    def _noted(self, message: Message, error: KafkaError) -> bool:
        """Tell whether an error is that of one partition, and no reason to give up all of them."""
        partition = partition_of(message)
        if not partition.topic or partition.partition < 0:
            return False
        out_of_range, flows = error.code() == OUT_OF_RANGE, partition in self._flowing
        if out_of_range and partition in self._fetched:
            self._broken.add(partition)
        if out_of_range and flows:
            self._out_of_range.add(partition)
        return out_of_range or not flows

    def metadata_of_this_batch(self) -> bytes:
        """Return the group metadata as it was right after the poll.

        Raises:
            TaskMigrated: it names no member: the broker would not check it, and a zombie would get through.
        """
        if not names_a_member(self._metadata):
            raise TaskMigrated("not a member of the group at the moment")
        return self._metadata

    @property
    def joined(self) -> bool:
        """Whether the group has admitted this member, as of the last poll."""
        return membership(self._metadata)[0] > 0

    def member_id(self) -> str:
        """Return the id that the group knows this member by; "" before the first poll."""
        return membership(self._metadata)[1]

    def take_revoked(self) -> set[TopicPartition]:
        """Return the partitions revoked since the last call, as the callbacks noted them."""
        revoked, self._revoked = self._revoked, set()
        return revoked

    def take_out_of_range(self) -> list[TopicPartition]:
        """Return the flowing partitions that could not be read at their position, noted since the last call."""
        found, self._out_of_range = self._out_of_range & self._flowing, set()
        return sorted(found)

    def why_unreadable(self, partition: TopicPartition, position: int) -> str:
        """Ask the leader what it holds, and say why a position can't be read on; "" where nothing speaks against it.

        Then it was an error about an earlier position, or of a moment, and the partition is given anew: where it was
        the truth, and the leader does not answer at the moment, the error comes again.
        """
        with kafka_errors_ignored():
            first, end = self._consumer.get_watermark_offsets(ClientPartition(*partition), _HELD_TIMEOUT_S)
            if position < first:
                return f"{partition.topic}: offsets {position} to {first - 1} were removed before they were decided"
            if position > end:
                return f"{partition.topic}: the position is {position}, its end is {end}: was it cut, or made anew?"
        self.start({partition: position})
        return ""

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """Let partitions flow from the next positions to read.

        librdkafka keeps a pause when a partition goes and comes back. So what is paused is resumed: before it is given
        anew, or after the seek.

        Raises:
            TaskMigrated: a partition is not ours any more.
        """
        self._take_back(positions.keys() & self._broken)
        again = positions.keys() & self._fetched
        for partition in positions:
            self._ends.pop(partition, None)
        for partition in sorted(again):
            self._seek(ClientPartition(*partition, positions[partition]))
        new = [
            ClientPartition(*partition, position) for partition, position in positions.items() if partition not in again
        ]
        with kafka_errors_as(TaskMigrated, f"can't read {', '.join(map(str, positions))}"):
            self._resume(positions.keys() - again)
            if new:
                self._consumer.incremental_assign(new)
            self._resume(again)
        self._fetched.update(positions)
        self._flowing.update(positions)

    def _take_back(self, broken: Set[TopicPartition]) -> None:
        if not broken:  # librdkafka would take the call for the answer to a revocation that it is about to tell
            return
        with kafka_errors_as(TaskMigrated, f"can't give back {', '.join(map(str, sorted(broken)))}"):
            self._consumer.incremental_unassign([ClientPartition(*partition) for partition in sorted(broken)])
        self._fetched -= broken
        self._broken -= broken

    def _resume(self, partitions: Set[TopicPartition]) -> None:
        paused = sorted(partitions & self._paused)
        self._consumer.resume([ClientPartition(*partition) for partition in paused])
        self._paused.difference_update(paused)

    def _seek(self, to: ClientPartition) -> None:
        """Seek; right after it was given one, librdkafka may not know the partition yet, until metadata came."""
        for pause_s in (*_SEEK_PAUSES_S, None):
            try:
                return self._consumer.seek(to)
            except CLIENT_ERRORS as error:
                reason = kafka_reason(error)
                if pause_s is None:
                    raise TaskMigrated(f"can't seek in {to.topic}-{to.partition}: {reason.str()}") from error
                self._runtime.sleep(pause_s)
        return None

    def lag(self, positions: Mapping[TopicPartition, int]) -> dict[tuple[str, int], int]:
        """Return how many offsets lie between each position and the end, as last heard from the brokers.

        What was met at the end counts as read: markers of a transactional producer of inputs are no records.
        """
        found = {}
        for partition, position in positions.items():
            end = -1
            with kafka_errors_ignored():
                _, end = self._consumer.get_watermark_offsets(ClientPartition(*partition), cached=True)
            if end >= 0:
                found[partition.topic, partition.partition] = max(0, end - self.reached(partition, position))
        return found

    def reached(self, partition: TopicPartition, position: int) -> int:
        """Return how far a partition is read: to the position, or to the end that was met behind it."""
        return max(position, self._ends.get(partition, 0))

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop fetching from partitions that are still ours.

        Raises:
            TaskMigrated: the client does not know one of them: it is not ours any more.
        """
        stopped = list(partitions)
        self._flowing.difference_update(stopped)
        self._paused.update(stopped)
        with kafka_errors_as(TaskMigrated, f"can't pause {', '.join(map(str, stopped))}"):
            self._consumer.pause([ClientPartition(*partition) for partition in stopped])

    def close_in_time(self, timeout_s: float) -> None:
        """Leave the group, but do not wait longer than this: closing can block (confluent-kafka-python #1667)."""
        self._runtime.spawn("leave the group", self._close).join(timeout_s)

    def _close(self) -> None:
        with kafka_errors_ignored():  # fenced, it is out already
            self._consumer.close()

    def _on_assign(self, consumer: ConsumerCalls, partitions: list[ClientPartition]) -> None:
        consumer.incremental_assign([])  # acknowledges; without a call the binding would assign all of them
        self.assigned |= {TopicPartition(partition.topic, partition.partition) for partition in partitions}

    def _on_revoke(self, consumer: ConsumerCalls, partitions: list[ClientPartition]) -> None:
        gone = {TopicPartition(partition.topic, partition.partition) for partition in partitions}
        consumer.incremental_unassign([ClientPartition(*partition) for partition in sorted(gone & self._fetched)])
        self.assigned -= gone
        self._fetched -= gone
        self._broken -= gone
        self._flowing -= gone
        self._revoked |= gone
