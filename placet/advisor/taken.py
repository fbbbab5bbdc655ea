"""The gate's positions, so that no function works on a state that a signal is about to change.

The gate's positions are part of the transaction that decides. So its consumer group tells for every signal whether the
gate has decided on it: accepted, refused, repeated, or without a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Final

from aiokafka import TopicPartition  # type: ignore[import-untyped] # it ships no types
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped] # it ships no types
from aiokafka.errors import KafkaError  # type: ignore[import-untyped] # it ships no types
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from placet.advisor.credentials import credentials
from placet.streams.errors import LogUnreachable
from placet.streams.settings import Settings
from placet.streams.telemetry.log import get_logger

__all__ = ["GatePositions"]

_FRESH_S: Final = 0.05
_REQUEST_TIMEOUT_MS: Final = 5_000


class GatePositions:
    """Asks for the positions of the gate's consumer group, at most every 50 ms.

    Args:
        settings: where Kafka is, and the app, whose name is the group's.
        topic: the signals.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        options = settings.librdkafka() | settings.consumer_options()
        self._group = settings.app
        self._topic = topic
        self._admin = AIOKafkaAdminClient(
            bootstrap_servers=settings.kafka.bootstrap_servers,
            client_id=f"{settings.app}.advisor",
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            **credentials_to_aiokafka_auth(credentials(options)),
        )
        self._positions: Mapping[int, int] = {}
        self._asked_s = float("-inf")
        self._asking = asyncio.Lock()
        self._coordinator: int | None = None
        self._log = get_logger("advisor")

    async def open(self) -> None:
        """Connect.

        Raises:
            LogUnreachable: no broker answered.
        """
        try:
            await self._admin.start()
        except KafkaError as error:
            raise LogUnreachable(f"the advisor can't reach Kafka: {error!r}") from error

    async def close(self) -> None:
        """Disconnect."""
        await self._admin.close()

    async def has_taken(self, partition: int, offset: int) -> bool:
        """Return whether the gate has decided on this signal. False too while Kafka does not answer."""
        if self._positions.get(partition, 0) > offset:
            return True
        async with self._asking:
            if monotonic() - self._asked_s > _FRESH_S:
                await self._ask()
        return self._positions.get(partition, 0) > offset

    async def _ask(self) -> None:
        try:
            if self._coordinator is None:
                self._coordinator = await self._admin.find_coordinator(self._group)
            found = await self._admin.list_consumer_group_offsets(self._group, self._coordinator)
        except KafkaError as error:
            self._coordinator = None
            self._log.debug("the gate's positions are not known", error=repr(error))
        else:
            self._positions = _of_topic(found, self._topic)
        self._asked_s = monotonic()


def _of_topic(found: Mapping[TopicPartition, tuple[int, str]], topic: str) -> dict[int, int]:
    return {at.partition: position for at, (position, _) in found.items() if at.topic == topic}
