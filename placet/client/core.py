"""What both clients share: everything up to the wait, in which one client blocks and the other awaits."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from weakref import finalize

from msgspec import structs

from placet.client.compose import Composer
from placet.client.errors import DecisionTimeout, NotConnected, NotDelivered, ReadTimeout
from placet.client.exchange import Exchange, Sent
from placet.client.link import Link
from placet.client.snapshot import Snapshot
from placet.client.tracing import trace_headers
from placet.definitions import load_definition
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Decision
from placet.schemas.definition.model import Definition
from placet.schemas.messages import Message
from placet.schemas.times import Given
from placet.streams.settings import Settings, load_settings, misspelt

__all__ = ["Call", "Core", "clock_ms", "settings_here"]

_CONNECT_TIMEOUT_S = 30.0
_LOG = logging.getLogger("placet.client")
_NO_METADATA: Mapping[str, str] = {}


def clock_ms() -> int:
    """Return the machine's clock, in ms since the epoch."""
    return time.time_ns() // 1_000_000


class Call:
    """A message that was sent, with its futures; both kinds of `Proposal` wrap one."""

    def __init__(self, message: Message, sent: Sent, unread: Callable[[], str] = lambda: "") -> None:
        self.message = message
        self.durable = sent.durable
        self.answer = sent.answer
        self._unread = unread

    @property
    def input_id(self) -> str:
        """The id under which the decision is found."""
        return self.message.input_id

    def not_delivered(self, timeout_s: float) -> NotDelivered:
        """Return the error for a caller that waited until the message is durable."""
        message = self.message
        return NotDelivered(
            f"`{message.name}` ({message.input_id}) of {message.entity_id} was not confirmed within {timeout_s:g} s. "
            "Sending it again with the same id and key is safe."
        )

    def undecided(self, timeout_s: float) -> DecisionTimeout:
        """Return the error for a caller that waited for the decision."""
        message = self.message
        return DecisionTimeout(message.name, message.input_id, message.entity_id, timeout_s, self._unread())

    def expected(self) -> Future[Decision]:
        """Return the decision to come."""
        if self.answer is None:
            raise ValueError("the message was sent without asking for its decision")
        return self.answer


class Core:
    """One entity type's client, without the blocking or awaiting calls.

    Args:
        definition: the entity type's name, or a definition or its file for the time until one is in force.
        app: prefix of the topics; by default the settings'.
        bootstrap_servers: Kafka's; by default the settings'.
        sender: the `proposer` of proposals, the `source` of signals.
        settings: all settings, in place of the environment's.
        connect_timeout_s: how long to wait for topics and definition.
    """

    def __init__(
        self,
        definition: Definition | Path | str,
        *,
        app: str | None = None,
        bootstrap_servers: str | None = None,
        sender: str = "",
        settings: Settings | None = None,
        connect_timeout_s: float = _CONNECT_TIMEOUT_S,
    ) -> None:
        wanted = load_definition(definition) if isinstance(definition, Path) else definition
        self.settings = settings or settings_here(app, bootstrap_servers)
        self.sender = sender
        self.connect_timeout_s = connect_timeout_s
        self._exchange = Exchange(self.settings, wanted, connect_timeout_s)
        self._composed: tuple[Link, Composer] | None = None

    def start(self) -> Future[None]:
        """Begin to connect."""
        self._exchange.start()
        return self._exchange.opened

    def end(self) -> None:
        """Ask for the end without waiting for it."""
        self._exchange.end()

    def close(self) -> None:
        """Wait for records that are being sent, then end."""
        self._exchange.close()

    @property
    def exchange(self) -> Exchange:
        """The running exchange. Raises NotConnected."""
        opened = self._exchange.opened
        if not opened.done() or opened.exception() is not None:
            raise NotConnected("the client is not open: use it in a `with`, or call `open()` first")
        self._exchange.check()
        return self._exchange

    @property
    def composer(self) -> Composer:
        """Makes messages by the rules in force. Raises NotConnected before the client is connected."""
        link, composed = self.exchange.link, self._composed
        if composed is None or composed[0] is not link:
            composer = Composer(link.definition, link.codec, self.sender, beyond=link.beyond, ahead=link.ahead)
            self._composed = composed = link, composer
        return composed[1]

    @property
    def codec(self) -> Codec:
        """Decodes records of every definition version of the entity type."""
        return self.exchange.link.codec

    def read(self, entity_id: str, at_least_version: int) -> Future[Snapshot]:
        """Ask for a state."""
        return self.exchange.mirror.read(entity_id, at_least_version)

    @staticmethod
    def read_now(found: Snapshot) -> Snapshot:
        """Return a state with the time at which it is handed over: from now on whoever thinks about it takes time."""
        return structs.replace(found, read_at=clock_ms())

    def not_read(self, entity_id: str, at_least_version: int, timeout_s: float) -> ReadTimeout:
        """Return the error for a caller that waited for a state."""
        newest = self.exchange.mirror.newest(entity_id)
        return ReadTimeout(
            f"{entity_id} was not there at version {at_least_version} or later within {timeout_s:g} s; the newest "
            f"version read so far is {newest.version}"
        )

    def would_accept(self, snapshot: Snapshot, name: str, payload: Mapping[str, Given] | None) -> Decision:
        """Evaluate a proposal on the local view."""
        composer = self.composer
        with composer.errors_of_a_later_version():
            return composer.would_accept(snapshot, name, payload, clock_ms())

    def propose(
        self,
        snapshot: Snapshot,
        name: str,
        payload: Mapping[str, Given] | None,
        *,
        proposal_id: str | None = None,
        rationale: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        traceparent: str | None = None,
        **said: Any,
    ) -> Call:
        """Send a proposal."""
        exchange, composer = self.exchange, self.composer  # one composer: the rules may change in between
        with composer.errors_of_a_later_version():
            message = composer.proposal(
                snapshot, name, payload, clock_ms(), proposal_id=proposal_id or str(uuid.uuid4()), **said
            )
        value = composer.codec.encode_message(
            message, rationale=rationale or "", model=model or "", metadata=metadata or _NO_METADATA
        )
        sent = exchange.send(message, value, trace_headers(traceparent), answered=True)
        return self._called(exchange, message, sent)

    def signal(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Given] | None,
        *,
        answered: bool,
        traceparent: str | None = None,
        **said: Any,
    ) -> Call:
        """Send a signal."""
        exchange, composer = self.exchange, self.composer
        with composer.errors_of_a_later_version():
            message = composer.signal(entity_id, name, payload, clock_ms(), **said)
        value = composer.codec.encode_message(message)
        return self._called(
            exchange, message, exchange.send(message, value, trace_headers(traceparent), answered=answered)
        )

    @staticmethod
    def _called(exchange: Exchange, message: Message, sent: Sent) -> Call:
        call = Call(message, sent, lambda: exchange.answers.unread)
        if sent.answer is not None:  # once the caller has let go of it, nobody waits
            finalize(call, exchange.forget, message, sent.answer).atexit = False
        return call


def settings_here(app: str | None, bootstrap_servers: str | None) -> Settings:
    """Return the settings of a program: what its call gives over the environment. Misspelt variables are logged."""
    kafka = {} if bootstrap_servers is None else {"kafka": {"bootstrap_servers": bootstrap_servers}}
    for sentence in misspelt(os.environ):
        _LOG.warning(sentence)
    return load_settings(kafka if app is None else {**kafka, "app": app})
