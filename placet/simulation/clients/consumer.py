"""A simulated consumer, as librdkafka 2.16 behaves. Its calls; what its thread does stands in `fetcher`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as ClientPartition
from greenlet import getcurrent

from placet.simulation.brokers.cluster import NOT_LEADER, OK, SimulatedCluster
from placet.simulation.brokers.network import Handle, OnReply, Reply, Sender
from placet.simulation.clients.fetcher import FetchLane, FetchThread
from placet.simulation.clients.membership import GroupMembership
from placet.simulation.clients.message import SimulatedMessage, failure
from placet.simulation.clients.questions import UNSTABLE, any_broker, asked, metadata
from placet.simulation.scheduler import Process, Waiters

__all__ = ["SimulatedConsumer"]

_FOR_EVER_NS: Final = 1 << 62
_ONCE_IN: Final = 30
"""How many answers there are for one without the group's positions, where the network is in trouble."""
At = tuple[str, int]


class SimulatedConsumer:
    """See `placet.streams.kafka.clients.ConsumerCalls`.

    Args:
        cluster: where it reads.
        process: whose client it is.
        options: librdkafka's.
    """

    def __init__(self, cluster: SimulatedCluster, process: Process, options: Mapping[str, Any]) -> None:
        self.cluster = cluster
        self.scheduler = cluster.scheduler
        self.process = process
        self.waiters = Waiters()
        self.closed = False
        self.polled_ns = _FOR_EVER_NS
        self.fetcher = FetchThread(cluster, process, options, self.waiters)
        self._group = str(options.get("group.id", ""))
        self._caller: object = None  # the thread in whose call it is
        self._others = Waiters()
        self._membership = GroupMembership(self, self._group, options)

    # -- the group -----------------------------------------------------------------------------------------------------

    def subscribe(self, topics: list[str], on_assign: Any = None, on_revoke: Any = None, on_lost: Any = None) -> None:
        """See `ConsumerCalls`."""
        self._use()
        self._membership.join(tuple(topics), on_assign, on_revoke, on_lost or on_revoke)

    def consumer_group_metadata(self) -> bytes:
        """See `ConsumerCalls`."""
        self._use()
        return self._membership.metadata()

    def close(self) -> None:
        """See `ConsumerCalls`."""
        if self.closed:
            return
        self._use()
        self.scheduler.turn(self.process)
        self._membership.leave()
        self.fetcher.close()
        self.closed = True

    # -- polling -------------------------------------------------------------------------------------------------------

    def poll(self, timeout: float = -1.0, /) -> Any:
        """See `ConsumerCalls`."""
        found = self._take(1, timeout)
        return found[0] if found else None

    def consume(self, num_messages: int = 1, timeout: float = -1.0, /) -> list[Any]:
        """See `ConsumerCalls`."""
        return self._take(num_messages, timeout)

    def _take(self, count: int, timeout: float) -> list[SimulatedMessage]:
        self._use()
        with self._busy():
            return self._taken(count, timeout)

    def _taken(self, count: int, timeout: float) -> list[SimulatedMessage]:
        scheduler, queue = self.scheduler, self.fetcher.queue
        self.polled_ns = _FOR_EVER_NS  # it is being polled
        limit_ns = scheduler.now_ns + round((timeout if timeout >= 0 else 1e6) * 1e9)
        scheduler.turn(self.process)
        found: list[SimulatedMessage] = []
        while True:
            while queue and len(found) < count:
                item = queue.popleft()
                if not isinstance(item, SimulatedMessage):
                    item()  # a callback
                elif self.fetcher.is_wanted(item):
                    found.append(item)
            left_ns = limit_ns - scheduler.now_ns
            if found or left_ns <= 0 or self.closed:
                break
            scheduler.wait(self.process, self.waiters, left_ns)
        self.polled_ns = scheduler.now_ns
        for at in dict.fromkeys(message.at for message in found):
            if at in self.fetcher.lanes:
                self.fetcher.fetch_soon(self.fetcher.lanes[at])
        return found

    # -- what is read --------------------------------------------------------------------------------------------------

    def assign(self, partitions: list[ClientPartition], /) -> None:
        """See `ConsumerCalls`."""
        self.unassign()
        self.fetcher.give(partitions)

    def unassign(self) -> None:
        """See `ConsumerCalls`."""
        self._use()
        for lane in self.fetcher.lanes.values():
            self.fetcher.drop(lane)
        self._membership.acknowledge("revoke")

    def incremental_assign(self, partitions: list[ClientPartition], /) -> None:
        """See `ConsumerCalls`."""
        self._use()
        for partition in partitions:
            if self.is_assigned((partition.topic, partition.partition)):
                raise failure(KafkaError._CONFLICT, f"{partition.topic} [{partition.partition}] is assigned already")
        self.fetcher.give(partitions)
        self._membership.acknowledge("assign")

    def incremental_unassign(self, partitions: list[ClientPartition], /) -> None:
        """See `ConsumerCalls`."""
        self._use()
        for partition in partitions:
            if not self.is_assigned((partition.topic, partition.partition)):
                raise failure(KafkaError._INVALID_ARG, f"{partition.topic} [{partition.partition}] is not assigned")
        for partition in partitions:
            self.fetcher.drop(self.fetcher.lanes[partition.topic, partition.partition])
        self._membership.acknowledge("revoke")

    def pause(self, partitions: list[ClientPartition], /) -> None:
        """See `ConsumerCalls`: what was fetched is dropped, and fetched again after `resume`."""
        self._use()
        for lane in self._known(partitions):
            if not lane.paused:
                lane.paused = True
                lane.version += 1
                lane.position = lane.app

    def resume(self, partitions: list[ClientPartition], /) -> None:
        """See `ConsumerCalls`: nothing happens to what is not paused."""
        self._use()
        for lane in self._known(partitions):
            if lane.paused:
                lane.paused = False
                self.fetcher.go_on_at(lane, lane.app)

    def seek(self, partition: ClientPartition, /) -> None:
        """See `ConsumerCalls`. Of what is queued, errors and ends may come all the same."""
        self._use()
        lane = self.fetcher.lanes.get((partition.topic, partition.partition))
        choices, trouble = self.cluster.choices, self.cluster.network.trouble
        if lane is None or not lane.assigned or lane.broken or (trouble and choices.pick(12) == 0):
            raise failure(KafkaError._STATE)  # the last: it was given a moment ago, and its metadata is on the way
        self.fetcher.go_on_at(lane, partition.offset)
        if trouble and choices.pick(4) == 0:
            for item in self.fetcher.queue:
                if isinstance(item, SimulatedMessage) and item.at == lane.at and item.problem is not None:
                    item.version = lane.version

    def _known(self, partitions: list[ClientPartition]) -> list[FetchLane]:
        """Return those that the client knows: the others are passed over."""
        lanes = self.fetcher.lanes
        found = [lanes.get((partition.topic, partition.partition)) for partition in partitions]
        return [lane for lane in found if lane is not None]

    # -- questions -----------------------------------------------------------------------------------------------------

    def committed(self, partitions: list[ClientPartition], timeout: float = -1.0) -> list[ClientPartition]:
        """See `ConsumerCalls`: unstable positions are asked for again until the time is over.

        Amid trouble positions may be missing for a moment: what was seen of leaders, coordinators may do.
        """
        self._use()
        ats = [(partition.topic, partition.partition) for partition in partitions]
        stable, group = self.fetcher.committed, self.cluster.group(self._group)
        cluster = self.cluster

        def handle(reply: Reply) -> None:
            known = group.positions
            if cluster.network.trouble and cluster.choices.pick(_ONCE_IN) == 0:
                known = {}  # of a coordinator that has just begun
            if stable and any(group.is_unstable(at) for at in ats):
                reply(UNSTABLE, None)
            else:
                found = [(*at, known.get(at, -1001)) for at in ats]
                reply(OK, [ClientPartition(topic, number, offset) for topic, number, offset in found])

        ask = partial(self.cluster.ask_group_coordinator, Sender(self.process, "OffsetFetch", ats))
        found: list[ClientPartition] = self._asked(ask, handle, timeout)
        return found

    def commit(self, *, offsets: list[ClientPartition], asynchronous: bool = False) -> list[ClientPartition]:  # noqa: ARG002
        """See `ConsumerCalls`."""
        self._use()
        moved = {(at.topic, at.partition): at.offset for at in offsets}
        group, (member_epoch, member_id) = self.cluster.group(self._group), self._membership.identity()

        def handle(reply: Reply) -> None:
            code = group.check(member_id, member_epoch, moved, transactional=False)
            if code == OK:
                group.positions.update(moved)
            reply(code, offsets)

        ask = partial(self.cluster.ask_group_coordinator, Sender(self.process, "OffsetCommit", moved))
        found: list[ClientPartition] = self._asked(ask, handle, 60.0)
        return found

    def get_watermark_offsets(
        self,
        partition: ClientPartition,
        timeout: float = -1.0,
        cached: bool = False,  # noqa: FBT001 - the client's own
    ) -> Any:
        """See `ConsumerCalls`: the end is what this client may read up to; cached ones survive ownership."""
        self._use()
        at, committed = (partition.topic, partition.partition), self.fetcher.committed
        if cached:
            lane = self.fetcher.lanes.get(at)
            return lane.watermarks if lane is not None else (-1001, -1001)
        if self.cluster.partition(at) is None:
            raise failure(KafkaError._UNKNOWN_PARTITION)
        number = self.cluster.leader_of(at)

        def handle(reply: Reply) -> None:
            found = self.cluster.partition(at)
            if found is None or found.leader != number:
                reply(NOT_LEADER, None)
            else:
                log = found.log
                reply(OK, (log.start, log.last_stable_offset if committed else log.high_watermark))

        ask = partial(self.cluster.network.send, Sender(self.process, "ListOffsets", at), number)
        return self._asked(ask, handle, timeout)

    def list_topics(self, topic: str = "", timeout: float = -1.0, /) -> Any:
        """See `ConsumerCalls`."""
        self._use()
        ask = partial(self.cluster.network.send, Sender(self.process, "Metadata"), any_broker(self.cluster))
        return self._asked(ask, lambda reply: reply(OK, metadata(self.cluster, topic)), timeout)

    def _asked(self, ask: Callable[[Handle, OnReply, int], None], handle: Handle, timeout: float) -> Any:
        with self._busy():
            return asked(self.cluster, self.process, ask, handle, timeout)

    # -- for the membership --------------------------------------------------------------------------------------------

    def call_back(self, call: Callable[[], None]) -> None:
        """Let something be done inside of the next poll."""
        self.fetcher.put(call)

    def tell(self, code: int, why: str | None = None) -> None:
        """Let the next poll tell of an error that is no partition's."""
        self.fetcher.put(SimulatedMessage(("", -1), problem=KafkaError(code, why)))

    def is_assigned(self, at: At) -> bool:
        """Tell whether a partition is read."""
        lane = self.fetcher.lanes.get(at)
        return lane is not None and lane.assigned

    def _use(self) -> None:
        """Begin a call: those of a consumer wait for each other, whatever thread they are made in."""
        self.process.check()
        while self._caller not in (None, getcurrent()):
            self.scheduler.wait(self.process, self._others, None)
        if self.closed:
            raise RuntimeError("Consumer closed")

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Have other threads wait meanwhile. A callback makes calls of its own: it is in the same thread."""
        before, self._caller = self._caller, getcurrent()
        try:
            yield
        finally:
            self._caller = before
            self.scheduler.wake(self._others)
