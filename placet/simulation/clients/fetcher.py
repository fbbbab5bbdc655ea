"""What a consumer's own thread does: it fetches from leaders into the queue that is polled.

Each partition has a version, which seeks, pauses and assignments raise: what a fetch brings that was under way before
is of an older one, and is dropped when it is polled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as ClientPartition

from placet.simulation.brokers.cluster import NOT_LEADER, OK, SimulatedCluster
from placet.simulation.brokers.log import Entry
from placet.simulation.brokers.network import Reply, Sender
from placet.simulation.clients.message import SimulatedMessage
from placet.simulation.scheduler import Process, Waiters

__all__ = ["FetchLane", "FetchThread"]

_RETRY_NS: Final = 100_000_000
_FETCH_MAX: Final = 500
_QUEUED_MAX: Final = 2_000
_TIMEOUT_NS: Final = 60_000_000_000
_NOTHING_UNDER_WAY: Final = -1
_UNSTABLE: Final = int(KafkaError.UNSTABLE_OFFSET_COMMIT)
_OUT_OF_RANGE: Final = int(KafkaError.OFFSET_OUT_OF_RANGE)
_FAILED: Final = int(KafkaError.UNKNOWN)
"""A broker's error of a moment that the client tells, with the version of its fetch, and fetches again."""
_ONCE_IN: Final = 500
_END: Final = KafkaError(KafkaError._PARTITION_EOF)
_EARLIEST: Final = ("earliest", "smallest", "beginning")
_LATEST: Final = ("latest", "largest", "end")
At = tuple[str, int]


class FetchLane:
    """A partition that the client knows. It is remembered when it is given back, with its pause.

    Attributes:
        position: to fetch next.
        app: behind what was polled last.
        broken: its position was not there, so that it has to be given anew.
        fetching: version of the fetch under way.
        ended_at: the end that was told last.
        watermarks: first offset and end, as last heard.
    """

    __slots__ = (
        "app",
        "assigned",
        "at",
        "broken",
        "ended_at",
        "fetching",
        "paused",
        "position",
        "queued",
        "version",
        "watermarks",
    )

    def __init__(self, at: At) -> None:
        self.at = at
        self.assigned = False
        self.paused = False
        self.broken = False
        self.position = 0
        self.app = 0
        self.version = 0
        self.queued = 0
        self.fetching = _NOTHING_UNDER_WAY
        self.ended_at = -1
        self.watermarks = (-1001, -1001)


class _Fetched(NamedTuple):
    """A fetch's answer: records, where to read on, whether that is the end, first offset and end of the partition."""

    entries: list[Entry]
    position: int
    at_end: bool
    watermarks: tuple[int, int]


class FetchThread:
    """The lanes of one consumer, and its queue.

    Attributes:
        queue: messages, and callbacks to be served.

    Args:
        cluster: where it reads.
        process: whose it is.
        options: librdkafka's.
        waiters: those who poll.
    """

    def __init__(
        self, cluster: SimulatedCluster, process: Process, options: Mapping[str, Any], waiters: Waiters
    ) -> None:
        self.lanes: dict[At, FetchLane] = {}
        self.queue: deque[SimulatedMessage | Callable[[], None]] = deque()
        self.committed = options.get("isolation.level", "read_committed") == "read_committed"
        self._cluster = cluster
        self._scheduler = cluster.scheduler
        self._process = process
        self._waiters = waiters
        self._closed = False
        self._tells_ends = bool(options.get("enable.partition.eof", False))
        self._reset = str(options.get("auto.offset.reset", "latest"))
        self._group = str(options.get("group.id", ""))

    def give(self, partitions: Iterable[ClientPartition]) -> None:
        """Fetch partitions from their offsets on."""
        for partition in partitions:
            at = (partition.topic, partition.partition)
            lane = self.lanes.get(at)
            if lane is None:
                lane = self.lanes[at] = FetchLane(at)
            lane.assigned, lane.broken = True, False
            # The thread may be quicker than the caller's next call, such as a pause.
            self.go_on_at(lane, partition.offset, at_once=self._cluster.choices.pick(4) == 0)

    def go_on_at(self, lane: FetchLane, position: int, *, at_once: bool = False) -> None:
        """Fetch from elsewhere, and drop what was fetched."""
        lane.version += 1
        lane.position = lane.app = position
        lane.ended_at = -1
        self.fetch_soon(lane, at_once=at_once)

    def drop(self, lane: FetchLane) -> None:
        """Fetch no more of a partition."""
        if lane.assigned:
            lane.assigned = False
            lane.version += 1

    def close(self) -> None:
        """Fetch nothing more."""
        for lane in self.lanes.values():
            self.drop(lane)
        self._closed = True
        self.queue.clear()

    def put(self, item: SimulatedMessage | Callable[[], None]) -> None:
        """Put something into the queue."""
        self.queue.append(item)
        self._scheduler.wake(self._waiters)

    def is_wanted(self, message: SimulatedMessage) -> bool:
        """Tell whether a message out of the queue is still of interest, and take note that it was polled."""
        lane = self.lanes.get(message.at)
        if lane is None:
            return True
        is_record = message.problem is None
        lane.queued -= is_record
        if message.version < lane.version:
            return False
        if is_record:
            lane.app = (message.offset_ or 0) + 1
        return True

    def fetch_soon(self, lane: FetchLane, after_ns: int = 0, *, at_once: bool = False) -> None:
        """Fetch, unless that is under way already."""
        if lane.assigned and not lane.paused and not lane.broken and lane.fetching != lane.version:
            lane.fetching = lane.version
            if at_once:
                self._fetch(lane, lane.version)
            else:
                self._scheduler.later(after_ns, partial(self._fetch, lane, lane.version), self._process)

    def _fetch(self, lane: FetchLane, version: int) -> None:
        if self._closed or version != lane.version:
            return
        if lane.queued >= _QUEUED_MAX:
            lane.fetching = _NOTHING_UNDER_WAY
            return
        number, position = self._cluster.leader_of(lane.at), lane.position
        if position < 0:
            self._look_up(lane, version)
            return

        def handle(reply: Reply) -> None:
            found = self._cluster.partition(lane.at)
            if found is None or found.leader != number:
                reply(NOT_LEADER, None)
            elif not found.log.start <= position <= found.log.end:
                reply(_OUT_OF_RANGE, None)
            elif self._cluster.network.trouble and self._cluster.choices.pick(_ONCE_IN) == 0:
                reply(_FAILED, None)
            elif self._closed or lane.version != version:
                pass  # nobody waits for it
            else:
                fetched = self._fetched(lane, position)
                if fetched is None:
                    found.log.changed.append(partial(handle, reply))
                else:
                    reply(OK, fetched)

        sender = Sender(self._process, "Fetch", (lane.at, position))
        self._cluster.network.send(sender, number, handle, partial(self._answered, lane, version), _TIMEOUT_NS)

    def _look_up(self, lane: FetchLane, version: int) -> None:
        """Ask where the group stands: it was given without a position."""
        group = self._cluster.group(self._group)

        def handle(reply: Reply) -> None:
            reply(_UNSTABLE if group.is_unstable(lane.at) else OK, group.positions.get(lane.at, -1))

        def replied(code: int, position: Any) -> None:
            if version != lane.version:
                return
            lane.fetching = _NOTHING_UNDER_WAY
            if code != OK:
                self.fetch_soon(lane, _RETRY_NS)
            elif position < 0:
                self._out_of_range(lane, version)
            else:
                self.go_on_at(lane, position)

        sender = Sender(self._process, "OffsetFetch", lane.at)
        self._cluster.ask_group_coordinator(sender, handle, replied, _TIMEOUT_NS)

    def _fetched(self, lane: FetchLane, position: int) -> _Fetched | None:
        """Return what a leader has for a lane; None where there is nothing new."""
        log, choices = self._cluster.log(lane.at), self._cluster.choices
        count = _FETCH_MAX if choices.pick(4) else 1 + choices.pick(8)
        entries, to, at_end = log.read(position, count, committed=self.committed)
        if to <= position and not (at_end and self._tells_ends and lane.ended_at != to):
            return None
        return _Fetched(entries, to, at_end, (log.start, log.high_watermark))

    def _answered(self, lane: FetchLane, version: int, code: int, fetched: Any) -> None:
        if self._closed:
            return
        if lane.fetching == version:
            lane.fetching = _NOTHING_UNDER_WAY
        if code == OK:
            self._take(lane, version, fetched)
        elif code == _OUT_OF_RANGE:
            self._out_of_range(lane, version)
        elif code == _FAILED:
            self.put(SimulatedMessage(lane.at, lane.position, problem=KafkaError(code), version=version))
            self.fetch_soon(lane, _RETRY_NS)
        else:
            self.fetch_soon(lane, _RETRY_NS)

    def _take(self, lane: FetchLane, version: int, fetched: _Fetched) -> None:
        lane.watermarks = fetched.watermarks
        self.queue.extend(
            SimulatedMessage(lane.at, one.offset, one.timestamp, one.key, one.value, one.headers, None, version)
            for one in fetched.entries
        )
        lane.queued += len(fetched.entries)
        if version == lane.version:
            lane.position = fetched.position
            if fetched.at_end and self._tells_ends and lane.ended_at != fetched.position:
                lane.ended_at = fetched.position
                self.queue.append(SimulatedMessage(lane.at, fetched.position, problem=_END, version=version))
            self.fetch_soon(lane)
        self._scheduler.wake(self._waiters)

    def _out_of_range(self, lane: FetchLane, version: int) -> None:
        if version != lane.version and self._cluster.choices.pick(2):
            return  # else it is told, though a pause or a seek came in between
        if self._reset in (*_EARLIEST, *_LATEST):
            log = self._cluster.log(lane.at)
            self.go_on_at(lane, log.start if self._reset in _EARLIEST else log.high_watermark)
            return
        if version == lane.version:
            lane.broken = True
        why = f"fetch failed due to requested offset not available on the broker: offset {lane.position}"
        problem = KafkaError(KafkaError._AUTO_OFFSET_RESET, why)
        self.put(SimulatedMessage(lane.at, lane.position, problem=problem, version=lane.version))
