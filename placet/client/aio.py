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
from placet.schemas.times import Given

__all__ = ["AsyncChangeBatch", "AsyncClient", "AsyncProposal"]

Result = TypeVar("Result")


async def _within(timeout_s: float, future: Future[Result]) -> Result:
    return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)


class AsyncProposal:
    """A proposal that was sent. You may drop this object: the gate decides on the proposal all the same."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def proposal_id(self) -> str:
        """The proposal's id, which `placet explain` takes."""
        return self._call.input_id

    async def durable(self, timeout_s: float = 30) -> None:
        """Wait until all replicas in sync have the proposal.

        Raises:
            NotDelivered: they did not confirm it, but may have it; proposing again with the same key is safe.
        """
        try:
            await _within(timeout_s, self._call.durable)
        except TimeoutError:
            raise self._call.not_delivered(timeout_s) from None

    async def decision(self, timeout_s: float = 30) -> Decision:
        """Wait for the decision. Several tasks may await it, and each may do so again.

        Raises:
            DecisionTimeout: no decision came in time; proposing again with the same key is safe.
            NotDelivered: the proposal may not have reached the log; proposing again with the same key is safe.
            NotConnected: the client was closed meanwhile.
        """
        try:
            return await _within(timeout_s, self._call.expected())
        except TimeoutError:
            raise self._call.undecided(timeout_s) from None


class AsyncChangeBatch:
    """The changes of one poll, in the order of each partition. Store all of them, then call `commit`."""

    def __init__(self, batch: ChangeBatch) -> None:
        self._batch = batch

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self._batch)

    def __len__(self) -> int:
        return len(self._batch)

    async def commit(self) -> bool:
        """Store the group's positions behind the batch.

        Returns:
            False if its partitions moved to another member of the group, which reads the batch again.

        Raises:
            LogUnreachable: no broker answered; the next reader gets the batch again.
            NotConnected: the loop over `changes` has ended; the next reader gets the batch again.
        """
        return await asyncio.to_thread(self._batch.commit)


class AsyncClient:
    """One entity type's client: read, think, propose, wait for the decision.

        async with AsyncClient("order", app="shop") as client:
            order = await client.read("order-7")
            decision = await client.propose(order, "hold", {"note": "fraud?"}, dedup_key="case-12").decision()

    It has one thread of its own, one consumer and one producer, and thousands of asyncio tasks may use it at once. The
    first read of an entity loads its partition; the first proposal begins to follow the decisions of all partitions.

    Args:
        definition: the entity type's name, or a definition or the path of its file. The client goes by the definition
            in force on the control topic, and follows it while it runs; its own one counts until one is in force.
        app: prefix of the topics; by default PLACET_APP, else `placet`.
        bootstrap_servers: Kafka's; by default PLACET_KAFKA__BOOTSTRAP_SERVERS, else KAFKA_BOOTSTRAP_SERVERS.
        sender: name of this client: the `proposer` of its proposals, the `source` of its signals.
        settings: all settings at once, in place of app, servers and environment.
        connect_timeout_s: how long to wait for topics and definition, as a client may start before the gate.

    Raises:
        DefinitionError, SettingsError: the file or the environment is wrong.
    """

    def __init__(self, definition: Definition | Path | str, **where: Unpack[ClientOptions]) -> None:
        self._core = Core(definition, **where)

    async def open(self) -> Self:
        """Connect, and wait for topics and definition if they do not exist yet.

        Raises:
            SettingsError: no such topics, or no definition of this entity type, within `connect_timeout_s`.
            LogUnreachable: no broker answered.
        """
        try:
            await asyncio.wrap_future(self._core.start())
        except asyncio.CancelledError:
            self._core.end()
            raise
        return self

    async def close(self) -> None:
        """Wait at most 30 s for records that are being sent, then disconnect."""
        await asyncio.to_thread(self._core.close)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def definition(self) -> Definition:
        """The definition that this client goes by now: the one in force, and another one once that changes."""
        return self._core.exchange.link.definition

    @property
    def codec(self) -> Codec:
        """Decodes records of every definition version of the entity type. Another one once the rules change."""
        return self._core.codec

    async def read_rules(self) -> None:
        """Read the published rules to their end. A client does so by itself within moments; this is for whoever has met
        a schema that `codec` does not know.

        Raises:
            LogUnreachable: no broker answered.
            NotConnected: the client is not open.
        """
        await asyncio.wrap_future(self._core.exchange.read_rules())

    async def read(self, entity_id: str, *, at_least_version: int = 0, timeout_s: float = 10) -> Snapshot:
        """Return an entity's committed state: status `absent` and version 0 if it was never seen.

        The state may be some milliseconds old; the fence detects that. It is never older than a version that a decision
        named to this client, so a loop that reads again after STALE makes progress.

        The first read in a partition reads that partition's changelog from the beginning (the latest state of every
        entity in it, and one horizon of changes) and keeps one record for each entity in memory. From then on the
        client follows the partition, and reads are look-ups. Other partitions are not read.

        Args:
            entity_id: id of the entity.
            at_least_version: wait for this version or a later one, such as a decision's `version_after`.
            timeout_s: how long to wait.

        Raises:
            ReadTimeout: the state did not arrive in time, or not in that version.
            DecodeError: the record can't be read.
        """
        try:
            found = await _within(timeout_s, self._core.read(entity_id, at_least_version))
        except TimeoutError:
            raise self._core.not_read(entity_id, at_least_version, timeout_s) from None
        return self._core.read_now(found)

    def would_accept(self, snapshot: Snapshot, name: str, payload: Mapping[str, Given] | None = None) -> Decision:
        """Evaluate a proposal on the local view, before you spend time and money on it. Sends nothing.

        This is the gate's own ladder, on this snapshot at this moment. The client does not know later decisions, nor
        the dedup memory, except that of proposals with `dedup: once`.

        Raises:
            InvalidPayload: as `propose`.
            DefinitionError: the rules in force can't be evaluated here: a `python:` function is not installed, or a
                later release of Placet is needed.
        """
        return self._core.would_accept(snapshot, name, payload)

    def propose(
        self,
        snapshot: Snapshot,
        name: str,
        payload: Mapping[str, Given] | None = None,
        **said: Unpack[ProposalOptions],
    ) -> AsyncProposal:
        """Propose a change of the state that was read; returns at once, see `AsyncProposal.decision`.

        Args:
            snapshot: the state that the proposal is based on; it carries entity, version and incarnation.
            name: one of the definition's proposals.
            payload: its payload; fields with a default, and optional ones, may be left out.
            dedup_key: names the occasion, which is applied once. A retry keeps the key; a new occasion has a new one.
            caused_by: id of the signal or task that made you think; together with the name it serves as dedup key.
            proposal_id: the proposal's id; by default a new UUID.
            valid_for: the gate refuses it (EXPIRED) after this time; the definition may allow less, never more.
            issued_at: when it was first sent, as `event_time` of `signal`; by default now. A retry may keep it.
            rationale: why, for people. Rationale, model and metadata do not count when a repeat is compared.
            model: name of the model that made the proposal.
            metadata: anything else, for people.
            proposer: who proposes; by default the client's `sender`.
            traceparent: W3C trace context; by default OpenTelemetry's current span, if the program uses it.

        Raises:
            NoOccasion: no dedup_key, no caused_by, and the definition computes no key: a repeat could be applied twice.
            InvalidPayload: the definition has no such proposal, or a field is wrong.
            NotConnected: the client is not open.
            LogUnreachable: the producer's queue is full.
        """
        return AsyncProposal(self._core.propose(snapshot, name, payload, **said))

    async def signal(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Given] | None = None,
        *,
        timeout_s: float = 30,
        **said: Unpack[SignalOptions],
    ) -> None:
        """Report a fact, and return once all replicas in sync have it. The gate decides on it later.

        Args:
            entity_id: the entity that the fact is about; the record's key.
            name: one of the definition's signals.
            payload: its payload; fields with a default, and optional ones, may be left out.
            signal_id: names the fact; every retry has the same. No default: only the source knows what is a repeat.
            event_time: when the fact happened, ms since the epoch or a datetime with a time zone; by default now. A
                number before the year 2000 is refused, as seconds would be taken for 1970.
            caused_by: id of the signal or task that led to it.
            source: where the fact comes from; by default the client's `sender`.
            traceparent: as in `propose`.
            timeout_s: how long to wait.

        Raises:
            InvalidPayload: the definition has no such signal, or a field is wrong; nothing was sent.
            NotDelivered: the signal may or may not be on the log; sending it again with the same id is safe.
        """
        call = self._core.signal(entity_id, name, payload, answered=False, **said)
        await AsyncProposal(call).durable(timeout_s)

    async def signal_decided(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Given] | None = None,
        *,
        timeout_s: float = 30,
        **said: Unpack[SignalOptions],
    ) -> Decision:
        """Report a fact, and return the gate's decision on it. Args and errors: as `signal`.

        Raises:
            DecisionTimeout: no decision in time; sending it again with the same id is safe.
        """
        call = self._core.signal(entity_id, name, payload, answered=True, **said)
        return await AsyncProposal(call).decision(timeout_s)

    async def changes(self, group_id: str, *, batch_max: int = 1_000) -> AsyncIterator[AsyncChangeBatch]:
        """Follow all changes, from the first one that the log holds, as a member of a consumer group.

        A batch may come again after a crash, and may come late when partitions move. So replace the stored state of an
        entity only by one with a greater (`transaction`, `version`); docs/client.md shows this in SQL.

        Args:
            group_id: the consumer group; its members share the partitions.
            batch_max: most changes in one batch.

        Raises:
            DecodeError: a record can't be read.
            LogUnreachable, TaskMigrated: the group or a broker did not go on with this reader; begin again.
            FatalError: the brokers are too old, or the client lacks rights.
        """
        reader = ChangelogMember(self._core.settings, self._core.exchange, group_id, batch_max)
        try:
            while True:
                batch = await asyncio.to_thread(reader.poll)
                if batch is not None:
                    yield AsyncChangeBatch(batch)
        finally:
            await asyncio.to_thread(reader.close)
