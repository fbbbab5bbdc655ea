"""A consumer's membership in a group (KIP-848): heartbeats, and the callbacks that acknowledge what the group wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from struct import pack
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from placet.simulation.brokers.cluster import OK
from placet.simulation.brokers.groups import Beat, Member
from placet.simulation.brokers.network import Reply, Sender

if TYPE_CHECKING:
    from placet.simulation.clients.consumer import SimulatedConsumer

__all__ = ["GroupMembership"]

_LEAVE_WITHIN_S: Final = 5.0
_TIMEOUT_NS: Final = 5_000_000_000
At = tuple[str, int]
OnRebalance = Callable[[Any, list[ClientPartition]], None]


class GroupMembership:
    """What a consumer knows of its group.

    Args:
        consumer: whose it is.
        group: its name.
        options: librdkafka's.
    """

    def __init__(self, consumer: SimulatedConsumer, group: str, options: Mapping[str, Any]) -> None:
        self._consumer = consumer
        self._group = group
        self._client_id = str(options.get("client.id", "rdkafka"))
        self._instance = str(options.get("group.instance.id", ""))
        self._late_ns = int(options.get("max.poll.interval.ms", 300_000)) * 1_000_000
        self._member_id = self._new_id() if options.get("group.protocol") == "consumer" else ""
        self._epoch = -1
        self._topics: tuple[str, ...] = ()
        self._callbacks: tuple[OnRebalance | None, OnRebalance | None, OnRebalance | None] = (None, None, None)
        self._owned: set[At] = set()
        self._pending: tuple[str, set[At]] | None = None  # a callback that was not acknowledged yet
        self._wanted: frozenset[At] = frozenset()
        self._beating = False
        self._urgent = False  # another heartbeat is due as soon as this one is answered
        self._ticket = 0  # of the heartbeat that is due
        self._left = False

    def join(
        self, topics: tuple[str, ...], on_assign: OnRebalance | None, on_revoke: OnRebalance | None,
        on_lost: OnRebalance | None,
    ) -> None:  # fmt: skip
        """Join, in the client's own thread."""
        self._topics, self._callbacks = topics, (on_assign, on_revoke, on_lost)
        self._member_id = self._member_id or self._new_id()
        self._epoch = 0
        self._beat_after(0)

    def identity(self) -> tuple[int, str]:
        """Return epoch and id, -1 and maybe an id outside of the group."""
        return self._epoch, self._member_id

    def metadata(self) -> bytes:
        """Return the bytes that librdkafka hands over."""
        epoch, member_id = self.identity()
        instance = b"\1" + self._instance.encode() + b"\0" if self._instance else b"\0"
        return b"CGMDv2:" + pack("=i", epoch) + self._group.encode() + b"\0" + member_id.encode() + b"\0" + instance

    def acknowledge(self, kind: str) -> None:
        """The application has answered a callback: any call of that kind, "assign" or "revoke", is an answer."""
        if self._pending is None or self._pending[0] != kind:
            return
        _, partitions = self._pending
        self._pending = None
        if kind == "revoke":
            self._owned -= partitions
        else:
            self._owned |= partitions
        self._beat_after(0)

    def leave(self) -> None:
        """Give everything back, by a callback, and leave the group; wait for its answer, but not for ever."""
        if not self._topics or self._left:
            return
        consumer, scheduler = self._consumer, self._consumer.scheduler
        self._pending = None
        if self._owned and self._callbacks[1] is not None:
            self._pending = ("revoke", set(self._owned))
            self._callbacks[1](consumer, _partitions(self._owned))
        self._left = True
        done: list[int] = []
        if self._epoch > 0:
            epoch = -2 if self._instance else -1

            def left(code: int, _value: Any) -> None:
                done.append(code)
                scheduler.wake(consumer.waiters)

            self._send(epoch, None, left)
            limit_ns = scheduler.now_ns + round(_LEAVE_WITHIN_S * 1e9)
            while not done and scheduler.now_ns < limit_ns:
                scheduler.wait(consumer.process, consumer.waiters, limit_ns - scheduler.now_ns)
        self._topics = ()

    # -- the client's thread -------------------------------------------------------------------------------------------

    def _beat_after(self, delay_ns: int) -> None:
        self._ticket += 1
        self._consumer.scheduler.later(delay_ns, partial(self._beat, self._ticket), self._consumer.process)

    def _beat(self, ticket: int) -> None:
        consumer = self._consumer
        if consumer.closed or self._left or ticket != self._ticket:
            return
        if self._beating:
            self._urgent = True
            return
        if self._epoch > 0 and consumer.scheduler.now_ns - consumer.polled_ns > self._late_ns:
            consumer.tell(int(KafkaError._MAX_POLL_EXCEEDED))
            self._lose_all()  # and it is silent until it is polled
        else:
            self._beating = True
            self._send(self._epoch, set(self._owned), self._answered)

    def _send(self, epoch: int, owned: set[At] | None, on_reply: Callable[[int, Any], None]) -> None:
        consumer, cluster, name = self._consumer, self._consumer.cluster, self._group
        host = f"/{consumer.process.name}"
        member = Member(self._member_id, self._client_id, host, self._instance, self._topics)

        def handle(reply: Reply) -> None:
            group = cluster.group(name)
            beat = group.heartbeat(member, epoch, owned)
            found = group.members.get(member.member_id)
            if found is not None:
                cluster.expect_heartbeat(group, found)
            reply(OK, beat)

        sender = Sender(consumer.process, "ConsumerGroupHeartbeat")
        cluster.ask_group_coordinator(sender, handle, on_reply, _TIMEOUT_NS)

    def _answered(self, code: int, beat: Beat | None) -> None:
        consumer = self._consumer
        if consumer.closed or self._left:
            return
        self._beating = False
        interval_ns = consumer.cluster.group(self._group).setting_ns("heartbeat.interval")
        if code != OK or beat is None:
            self._beat_after(min(interval_ns, 200_000_000))
            return
        if beat.error == int(KafkaError.UNRELEASED_INSTANCE_ID):
            consumer.tell(int(KafkaError._FATAL), f"Fatal error: {KafkaError(beat.error).str()}")
            return
        if beat.error:
            if self._owned:
                self._lose_all()
            else:
                self._join_anew()
            return
        self._epoch = beat.epoch
        self._follow(beat.assigned)
        urgent, self._urgent = self._urgent, False
        self._beat_after(0 if urgent else interval_ns)

    def _follow(self, wanted: frozenset[At]) -> None:
        if self._pending is not None:
            return
        gone, new = self._owned - wanted, wanted - self._owned
        if gone:
            self._call("revoke", gone, self._callbacks[1])
        elif new:
            self._call("assign", new, self._callbacks[0])

    def _call(self, kind: str, partitions: set[At] | frozenset[At], callback: OnRebalance | None) -> None:
        self._pending = (kind, set(partitions))
        pending = self._pending

        def call() -> None:
            if self._pending is not pending:
                return
            if callback is not None:
                callback(self._consumer, _partitions(partitions))
            if self._pending is pending:  # the binding answers for an application that did not
                if kind == "assign":
                    self._consumer.incremental_assign(_partitions(partitions))
                else:
                    mine = [at for at in partitions if self._consumer.is_assigned(at)]
                    self._consumer.incremental_unassign(_partitions(mine))

        self._consumer.call_back(call)

    def _lose_all(self) -> None:
        """The group gave this member up, or it gave up itself: it joins anew once it was polled and has given back."""
        lost, self._owned, self._pending = set(self._owned), set(), None
        consumer, callback = self._consumer, self._callbacks[2]

        def call() -> None:
            if lost and callback is not None:
                callback(consumer, _partitions(lost))
            mine = [at for at in lost if consumer.is_assigned(at)]
            if mine:
                consumer.incremental_unassign(_partitions(mine))
            self._join_anew()

        consumer.call_back(call)

    def _join_anew(self) -> None:
        self._pending, self._epoch = None, 0
        self._beat_after(0)

    def _new_id(self) -> str:
        """Ids are random: whose comes first in the order of members is nobody's to say."""
        cluster = self._consumer.cluster
        return f"{cluster.choices.pick(256):02x}-{self._client_id}-{cluster.transactions.new_producer_id()}"


def _partitions(ats: Iterable[At]) -> list[ClientPartition]:
    return [ClientPartition(*at) for at in sorted(ats)]
