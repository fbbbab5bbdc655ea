"""The blocking client: for scripts, the shell, threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, Unpack

from placet.client.changes import ChangeBatch, ChangelogMember
from placet.client.core import Call, Core
from placet.client.options import ClientOptions, ProposalOptions, SignalOptions
from placet.client.snapshot import Snapshot
from placet.schemas.codec.codec import Codec
from placet.schemas.decision import Decision
from placet.schemas.definition.model import Definition
from placet.schemas.times import Given

__all__ = ["Client", "Proposal"]


class Proposal:
    """A proposal that was sent. You may drop this object: the gate decides on the proposal all the same."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def proposal_id(self) -> str:
        """The proposal's id, which `placet explain` takes."""
        return self._call.input_id

    def durable(self, timeout_s: float = 30) -> None:
        """Wait until all replicas in sync have the proposal.

        Raises:
            NotDelivered: they did not confirm it, but may have it; proposing again with the same key is safe.
        """
        try:
            self._call.durable.result(timeout_s)
        except TimeoutError:
            raise self._call.not_delivered(timeout_s) from None

    def decision(self, timeout_s: float = 30) -> Decision:
        """Wait for the decision; may be called again.

        Raises:
            DecisionTimeout: no decision came in time; proposing again with the same key is safe.
            NotDelivered: the proposal may not have reached the log; proposing again with the same key is safe.
            NotConnected: the client was closed meanwhile.
        """
        try:
            return self._call.expected().result(timeout_s)
        except TimeoutError:
            raise self._call.undecided(timeout_s) from None


class Client:
    """One entity type's blocking client; it has the calls and errors of `AsyncClient`.

        with Client("order", app="shop") as client:
            order = client.read("order-7")
            decision = client.propose(order, "hold", {"note": "fraud?"}, dedup_key="case-12").decision()

    Many threads may use it at once.
    """

    def __init__(self, definition: Definition | Path | str, **where: Unpack[ClientOptions]) -> None:
        self._core = Core(definition, **where)

    def open(self) -> Self:
        """Connect; see `AsyncClient.open`."""
        try:
            self._core.start().result()
        except KeyboardInterrupt:
            self._core.end()
            raise
        return self

    def close(self) -> None:
        """Wait at most 30 s for records that are being sent, then disconnect."""
        self._core.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def definition(self) -> Definition:
        """The definition that this client goes by now; see `AsyncClient.definition`."""
        return self._core.exchange.link.definition

    @property
    def codec(self) -> Codec:
        """Decodes records of every definition version of the entity type; see `AsyncClient.codec`."""
        return self._core.codec

    def read(self, entity_id: str, *, at_least_version: int = 0, timeout_s: float = 10) -> Snapshot:
        """Return an entity's committed state; see `AsyncClient.read`."""
        found = self._core.read(entity_id, at_least_version)
        try:
            return self._core.read_now(found.result(timeout_s))
        except TimeoutError:
            found.cancel()
            raise self._core.not_read(entity_id, at_least_version, timeout_s) from None

    def would_accept(self, snapshot: Snapshot, name: str, payload: Mapping[str, Given] | None = None) -> Decision:
        """Evaluate a proposal on the local view; see `AsyncClient.would_accept`."""
        return self._core.would_accept(snapshot, name, payload)

    def propose(
        self,
        snapshot: Snapshot,
        name: str,
        payload: Mapping[str, Given] | None = None,
        **said: Unpack[ProposalOptions],
    ) -> Proposal:
        """Propose a change of the state that was read; see `AsyncClient.propose`."""
        return Proposal(self._core.propose(snapshot, name, payload, **said))

    def signal(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Given] | None = None,
        *,
        timeout_s: float = 30,
        **said: Unpack[SignalOptions],
    ) -> None:
        """Report a fact, and return once all replicas in sync have it; see `AsyncClient.signal`."""
        call = self._core.signal(entity_id, name, payload, answered=False, **said)
        Proposal(call).durable(timeout_s)

    def signal_decided(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Given] | None = None,
        *,
        timeout_s: float = 30,
        **said: Unpack[SignalOptions],
    ) -> Decision:
        """Report a fact, and return the gate's decision on it; see `AsyncClient.signal_decided`."""
        call = self._core.signal(entity_id, name, payload, answered=True, **said)
        return Proposal(call).decision(timeout_s)

    def changes(self, group_id: str, *, batch_max: int = 1_000) -> Iterator[ChangeBatch]:
        """Follow all changes as a member of a consumer group; see `AsyncClient.changes`."""
        with ChangelogMember(self._core.settings, self._core.exchange, group_id, batch_max) as reader:
            while True:
                batch = reader.poll()
                if batch is not None:
                    yield batch
