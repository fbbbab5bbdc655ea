"""The client for asyncio. Nothing in it blocks the loop: what waits for Kafka does so in the client's own thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Self, TypeVar, Unpack

from placet.client.changes import ChangeBatch, ChangelogMember
from placet.client.core import Call, Core
from placet.client.options import ClientOptions, ProposalOptions, SignalOptions
from placet.client.snapshot import Snapshot
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Decision
from placet.schemas.definition.model import Definition
from placet.schemas.messages import Value

__all__ = ["AsyncChangeBatch", "AsyncClient", "AsyncProposal"]

Result = TypeVar("Result")


async def _within(timeout_s: float, future: Future[Result]) -> Result:
    return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)


class AsyncProposal:
    """A proposal under way. Letting go of it costs nothing: the gate decides all the same."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def proposal_id(self) -> str:
        """Its id: the decision is found under it, `placet explain` takes it."""
        return self._call.input_id

    async def durable(self, timeout_s: float = 30) -> None:
        """Wait until all replicas in sync have it.

        Raises:
            NotDelivered: nobody knows whether they have; proposing again with the same key is safe.
        """
        try:
            await _within(timeout_s, self._call.durable)
        except TimeoutError:
            raise self._call.not_delivered(timeout_s) from None

    async def decision(self, timeout_s: float = 30) -> Decision:
        """Wait for the decision; may be awaited again, and by many.

        Raises:
            DecisionTimeout: none came; proposing again with the same dedup key is safe.
            NotDelivered: it may not have reached the log; proposing again with the same key is safe.
            NotConnected: the client was closed meanwhile.
        """
        try:
            return await _within(timeout_s, self._call.expected())
        except TimeoutError:
            raise self._call.undecided(timeout_s) from None


class AsyncChangeBatch:
    """What was read at once, in the order of each partition. Keep all of it, then `commit`."""

    def __init__(self, batch: ChangeBatch) -> None:
        self._batch = batch

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self._batch)

    def __len__(self) -> int:
        return len(self._batch)

    async def commit(self) -> bool:
        """Say that the batch is kept. False: its partitions moved to another reader of the group, which reads it again.

        Raises:
            LogUnreachable: no broker answered; whoever reads next gets the batch again.
            NotConnected: the loop over `changes` has ended; whoever reads next gets the batch again.
        """
        return await asyncio.to_thread(self._batch.commit)


class AsyncClient:
    """One entity type's client: read, think, propose, wait for the decision.

        async with AsyncClient("order", app="shop") as client:
            order = await client.read("order-7")
            decision = await client.propose(order, "hold", {"note": "fraud?"}, dedup_key="case-12").decision()

    It has one thread of its own, one consumer and one producer, and may be used by thousands of tasks at once. The
    first read of an entity loads its partition; the first proposal begins to follow the decisions of all partitions.

    Args:
        definition: a definition, the path of its file, or the entity type's name: then the rules are those on the
            control topic. A file's need not be the gate's; what the gate does not know it refuses.
        app: prefix of the topics; else PLACET_APP, else `placet`.
        bootstrap_servers: where Kafka is; else PLACET_KAFKA__BOOTSTRAP_SERVERS or KAFKA_BOOTSTRAP_SERVERS.
        sender: who this is: the `proposer` of proposals, the `source` of signals.
        settings: all settings at once, in place of app, servers and environment.
        connect_timeout_s: how long topics and rules may take to be there, as a client may start before the gate.

    Raises:
        DefinitionError, SettingsError: the file or the environment is wrong.
    """

    def __init__(self, definition: Definition | Path | str, **where: Unpack[ClientOptions]) -> None:
        self._core = Core(definition, **where)

    async def open(self) -> Self:
        """Connect, and wait for topics and rules where they are not there yet.

        Raises:
            SettingsError: no such topics, or no rules for this entity type, within `connect_timeout_s`.
            LogUnreachable: no broker answered.
        """
        try:
            await asyncio.wrap_future(self._core.start())
        except asyncio.CancelledError:
            self._core.end()
            raise
        return self

    async def close(self) -> None:
        """Wait for what is under way, 30 s at most, and give the connections back."""
        await asyncio.to_thread(self._core.close)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def definition(self) -> Definition:
        """The rules that this client knows."""
        return self._core.exchange.link.definition

    @property
    def codec(self) -> Codec:
        """Decodes what any definition of the entity type wrote."""
        return self._core.codec

    async def read(self, entity_id: str, *, at_least_version: int = 0, timeout_s: float = 10) -> Snapshot:
        """Return an entity's committed state: status `absent` and version 0 when it was never seen.

        It may be some milliseconds old; the fence notices. It never goes behind a version that a decision named to this
        client, so a loop that reads again after STALE makes progress.

        What it costs: the first read in a partition reads that partition's changelog from the beginning (the latest
        state of every entity in it, and one horizon of changes) and keeps one record for each entity in memory; from
        then on it is followed, and reads are look-ups. Other partitions are not touched.

        Args:
            entity_id: whose state.
            at_least_version: wait until it has come so far, such as the `version_after` of a decision seen elsewhere.
            timeout_s: how long to wait.

        Raises:
            ReadTimeout: not there in time.
            DecodeError: the record can't be read.
        """
        try:
            return await _within(timeout_s, self._core.read(entity_id, at_least_version))
        except TimeoutError:
            raise self._core.not_read(entity_id, at_least_version, timeout_s) from None

    def would_accept(self, snapshot: Snapshot, name: str, payload: Mapping[str, Value] | None = None) -> Decision:
        """Judge a proposal on what is known here, before time and money are spent on it. Nothing is sent.

        It is the gate's own ladder, on this snapshot at this moment. Not known here: what else was decided since, and
        the dedup memory, save what happens `once`.

        Raises:
            InvalidPayload: as `propose`.
            DefinitionError: a `python:` function of the definition is not installed here.
        """
        return self._core.would_accept(snapshot, name, payload)

    def propose(
        self,
        snapshot: Snapshot,
        name: str,
        payload: Mapping[str, Value] | None = None,
        **said: Unpack[ProposalOptions],
    ) -> AsyncProposal:
        """Propose a change of what was read; returns at once, see `AsyncProposal.decision`.

        Args:
            snapshot: what it is based on: entity, version and incarnation travel in it.
            name: one of the definition's proposals.
            payload: its payload; fields with a default, and optional ones, may be left out.
            dedup_key: what it is about: the same key is applied once. A retry keeps it; a new idea has a new one.
            caused_by: id of the signal or task that made you think; serves as key, together with the name.
            proposal_id: its id; by default a new UUID.
            valid_for: refuse it (EXPIRED) after this time; the definition may allow less, never more.
            issued_at: when it was first tried, ms since the epoch; by default now. A retry may keep it.
            rationale: why, for people; like model and metadata it is no part of what is compared with a repeat.
            model: what thought of it.
            metadata: anything else.
            proposer: who proposes, where it is not the client's `sender`.
            traceparent: W3C trace context; by default OpenTelemetry's current span, where that is used.

        Raises:
            NoOccasion: no dedup_key, no caused_by, and the definition computes none: a repeat could not be told.
            InvalidPayload: the definition has no such proposal, or a field is wrong.
            NotConnected: the client is not open.
            LogUnreachable: too much is under way already.
        """
        return AsyncProposal(self._core.propose(snapshot, name, payload, **said))

    async def signal(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Value] | None = None,
        *,
        timeout_s: float = 30,
        **said: Unpack[SignalOptions],
    ) -> None:
        """Report a fact, and return once it is durable: the gate will decide on it.

        Args:
            entity_id: whom it is about; the record's key.
            name: one of the definition's signals.
            payload: its payload; fields with a default, and optional ones, may be left out.
            signal_id: names the fact, the same in every retry. No default: only the source knows what is a repeat.
            event_time: when it happened, ms since the epoch; by default now.
            caused_by: id of what caused it.
            source: where it comes from, where that is not the client's `sender`.
            traceparent: as in `propose`.
            timeout_s: how long to wait.

        Raises:
            InvalidPayload: the definition has no such signal, or a field is wrong; nothing was sent.
            NotDelivered: nobody knows whether it is on the log; sending it again with the same id is safe.
        """
        call = self._core.signal(entity_id, name, payload, answered=False, **said)
        await AsyncProposal(call).durable(timeout_s)

    async def signal_decided(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Value] | None = None,
        *,
        timeout_s: float = 30,
        **said: Unpack[SignalOptions],
    ) -> Decision:
        """Report a fact, and return what the gate said to it. Args and errors: as `signal`.

        Raises:
            DecisionTimeout: no decision in time; sending it again with the same id is safe.
        """
        call = self._core.signal(entity_id, name, payload, answered=True, **said)
        return await AsyncProposal(call).decision(timeout_s)

    async def changes(self, group_id: str, *, batch_max: int = 1_000) -> AsyncIterator[AsyncChangeBatch]:
        """Follow all changes, from the first one that the log holds, as a member of a consumer group.

        A batch may come again after a crash, and late when partitions move: let only what has a greater (`transaction`,
        `version`) replace what is kept of an entity, and it makes no difference (docs/client.md has it in SQL).

        Args:
            group_id: the consumer group; its members share the partitions.
            batch_max: most changes at once.

        Raises:
            DecodeError: a record can't be read.
            LogUnreachable, FatalError: begin again, or look at the rights.
        """
        reader = ChangelogMember(self._core.settings, self._core.exchange.link, group_id, batch_max)
        try:
            while True:
                batch = await asyncio.to_thread(reader.poll)
                if batch is not None:
                    yield AsyncChangeBatch(batch)
        finally:
            await asyncio.to_thread(reader.close)
