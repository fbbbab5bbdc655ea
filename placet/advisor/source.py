"""The only module that uses faust. A faust agent reads the signals; positions are committed here.

faust reads records and assigns partitions, and does nothing else here: no tables, no producer, no web server, no
folders, no logging of its own, and no acknowledgements, see `progress`. For two things it has no setting:

* It reads uncommitted records, but a record of an aborted transaction must trigger nothing: see `_Thread`.
* It commits the offsets that were acknowledged to it, which is wrong in cases (faust-streaming/faust#606). So the topic
  is one without acknowledgements, and the positions come from `Progress`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, cast

import faust
from aiokafka.errors import KafkaError  # type: ignore[import-untyped] # it ships no types
from faust.app.base import BootStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from placet.advisor.credentials import credentials
from placet.streams.errors import LogUnreachable
from placet.streams.records import ConsumerRecord
from placet.streams.settings import Settings

__all__ = ["SignalSource", "Start", "Take"]

Start = Literal["earliest", "latest"]
Take = Callable[[ConsumerRecord, int], Awaitable[None]]
"""Takes a record, and the generation of the group's assignment in which it was read."""

_BUFFERED_RECORDS: Final = 500
_FETCH_BYTES: Final = 262_144
_SESSION_S, _HEARTBEAT_S = 10.0, 1.0
_LOOK_EVERY_S: Final = 0.5


class _Thread(driver.AIOKafkaConsumerThread):
    """A consumer that reads committed records only: faust does so in transactions, and has no setting for it."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        self.consumer.in_transaction = True
        try:
            return super()._create_worker_consumer(transport)
        finally:
            self.consumer.in_transaction = False


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer


class _Boot(BootStrategy):
    """A consumer, and nothing else."""

    enable_kafka_producer = False
    enable_web = False
    enable_sensors = False


class _App(faust.App):
    BootStrategy = _Boot

    async def on_first_start(self) -> None:
        """Make no folders: there are no tables."""


class SignalSource:
    """Reads one topic as a member of a consumer group.

    Args:
        settings: where Kafka is.
        topic: the topic to read.
        group: the consumer group.
        start: where a group without a stored position begins.
        take: gets each record, one after the other; reading waits for it.
        assigned: gets the partitions that are this member's, after each rebalance.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        group: str,
        *,
        start: Start,
        take: Take,
        assigned: Callable[[frozenset[int]], None],
    ) -> None:
        self._topic = topic
        self._take = take
        self._app = _made(settings, group, start)
        raw = self._app.topic(topic, key_serializer="raw", value_serializer="raw", acks=False)
        self._app.agent(raw)(self._read)
        self._app.on_partitions_assigned.connect(_partitions_to(assigned), weak=False)
        self._failure: BaseException | None = None

    async def open(self) -> None:
        """Join the group.

        Raises:
            LogUnreachable: no broker answered.
        """
        try:
            await self._app.start()
        except KafkaError as error:
            raise LogUnreachable(f"faust can't reach Kafka: {error!r}") from error

    async def ended(self) -> None:
        """Wait until reading ends by itself, which it never should.

        Raises:
            LogUnreachable: faust gave up; or what `take` raised.
        """
        while self._failure is None and not self._app.should_stop:  # noqa: ASYNC110 - mode's waiting leaves tasks behind
            await asyncio.sleep(_LOOK_EVERY_S)
        if self._failure is not None:
            raise self._failure
        raise LogUnreachable(f"faust has ended: {self._app.crash_reason!r}")

    async def commit(self, positions: Mapping[int, int]) -> bool:
        """Commit positions, by partition; False: a rebalance came first, and nothing is committed."""
        offsets = {TP(self._topic, partition): position for partition, position in positions.items()}
        # faust's own entry commits what was acknowledged to it, which goes wrong: see above.
        consumer = cast("driver.Consumer", self._app.consumer)
        return not offsets or bool(await consumer._commit(offsets))  # noqa: SLF001

    async def close(self) -> None:
        """Leave the group."""
        await self._app.stop()

    async def _read(self, stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            message = event.message
            record = ConsumerRecord(
                message.topic, message.partition, message.offset, round((message.timestamp or 0) * 1000),
                message.key, message.value, message.headers,
            )  # fmt: skip
            try:
                await self._take(record, message.generation_id)
            except BaseException as error:  # faust would begin again behind this record, and tell nobody
                if not isinstance(error, asyncio.CancelledError):
                    self._failure = error
                raise


def _partitions_to(assigned: Callable[[frozenset[int]], None]) -> Callable[..., Awaitable[None]]:
    async def told(_app: faust.App, partitions: set[TP], **_more: Any) -> None:
        assigned(frozenset(partition.partition for partition in partitions))

    return told


def _made(settings: Settings, group: str, start: Start) -> faust.App:
    servers = [f"kafka://{server.strip()}" for server in settings.kafka.bootstrap_servers.split(",")]
    app = _App(
        group,
        broker=servers,
        broker_credentials=credentials(settings.librdkafka() | settings.consumer_options()),
        broker_client_id=group,
        # A member that died keeps its partitions for a session: faust's minute is long.
        broker_session_timeout=_SESSION_S,
        broker_heartbeat_interval=_HEARTBEAT_S,
        broker_rebalance_timeout=2 * _SESSION_S,
        broker_max_poll_records=_BUFFERED_RECORDS,
        consumer_auto_offset_reset=start,
        consumer_max_fetch_size=_FETCH_BYTES,
        stream_buffer_maxsize=_BUFFERED_RECORDS,
        stream_wait_empty=False,
        table_standby_replicas=0,  # else it brings an assignor of its own, which asks for topics of its own
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        autodiscover=False,
        loop=asyncio.get_running_loop(),
    )
    app.transport = _Transport(app.conf.broker_consumer, app)
    return app
