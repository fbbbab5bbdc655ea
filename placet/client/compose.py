"""Makes a message from a caller's arguments, and raises every error that can be found before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property

from placet.client.errors import NoOccasion
from placet.client.snapshot import Snapshot
from placet.processors.address import ENTITY_ID_BYTES_MAX
from placet.processors.dedup import DEDUP_KEY_BYTES_MAX
from placet.processors.judge import check_message
from placet.processors.ladder import Times, decide
from placet.processors.machine import Machine, compile_machine
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.inputs import made_message
from placet.schemas.decision import Decision
from placet.schemas.definition.model import Definition
from placet.schemas.errors import DefinitionError, InvalidPayload
from placet.schemas.messages import Kind, Message
from placet.schemas.times import Given, duration_ms, payload_values, time_ms

__all__ = ["Composer"]

_INPUT_ID_MAX = ENTITY_ID_BYTES_MAX // 4
"""Characters of an id of a signal or proposal, as the gate counts them."""
_KEY_BYTES_MAX = DEDUP_KEY_BYTES_MAX - 128
"""Longest dedup key or cause that a caller may give: the gate puts a prefix, and a cause's name, to it."""
_ASK_THE_GATE = "Only the gate can tell: propose, and wait for its decision."


class Composer:
    """Makes messages of one entity type, and evaluates them on the local view.

    Args:
        definition: the definition.
        codec: checks payloads.
        sender: default for the proposer of a proposal and the source of a signal.
        beyond: a sentence that says why the rules in force can't be used here, if they are others.
        ahead: a sentence for a caller whose own definition is later than the one in force.
    """

    def __init__(
        self, definition: Definition, codec: Codec, sender: str = "", *, beyond: str = "", ahead: str = ""
    ) -> None:
        self.codec = codec
        self._definition = definition
        self._sender = sender
        self._beyond = beyond
        self._ahead = ahead

    @cached_property
    def machine(self) -> Machine:
        """The compiled definition.

        Raises:
            DefinitionError: a `python:` function is missing here or has other code, or other rules are in force.
        """
        if self._beyond:
            raise DefinitionError(self._beyond, fix=_ASK_THE_GATE)
        try:
            return compile_machine(self._definition)
        except DefinitionError as error:
            rules = f"version {self._definition.version} of `{self._definition.entity}`"
            message = f"{rules} can't be evaluated here: {error.message}"
            raise DefinitionError(message, fix=f"{error.fix} {_ASK_THE_GATE}") from error

    @contextmanager
    def errors_of_a_later_version(self) -> Iterator[None]:
        """Say beside an InvalidPayload that the caller's definition is not in force yet, where that is so."""
        try:
            yield
        except InvalidPayload as error:
            if not self._ahead:
                raise
            known = {"name": error.name, "input_id": error.input_id, "entity_id": error.entity_id}
            raise InvalidPayload(f"{error}. {self._ahead}", **known) from error

    def signal(
        self,
        entity_id: str,
        name: str,
        payload: Mapping[str, Given] | None,
        now_ms: int,
        *,
        signal_id: str,
        event_time: int | datetime | None = None,
        caused_by: str | None = None,
        source: str | None = None,
    ) -> Message:
        """Return a signal's message; see `AsyncClient.signal`.

        Raises:
            InvalidPayload: it does not fit the definition, or an id is too long.
        """
        rule = self._definition.signals.get(name)
        happened_at = now_ms if event_time is None else time_ms("event_time", event_time, name)
        sender = self._sender if source is None else source
        return self._checked(
            made_message(
                Kind.SIGNAL,
                name,
                input_id=signal_id,
                entity_id=entity_id,
                payload=payload_values(payload, rule.payload if rule else {}, name),
                event_time=happened_at,
                issued_at=now_ms,
                caused_by=caused_by,
                proposer=sender,
            )
        )

    def proposal(
        self,
        snapshot: Snapshot,
        name: str,
        payload: Mapping[str, Given] | None,
        now_ms: int,
        *,
        proposal_id: str,
        dedup_key: str | None = None,
        caused_by: str | None = None,
        valid_for: timedelta | None = None,
        issued_at: int | datetime | None = None,
        proposer: str | None = None,
    ) -> Message:
        """Return a proposal's message; see `AsyncClient.propose`.

        Raises:
            NoOccasion: neither the call nor the definition names the occasion.
            InvalidPayload: it does not fit the definition, or an id or key is too long.
        """
        rule = self._definition.proposals.get(name)
        if rule is None:
            known = ", ".join(self._definition.proposals) or "none"
            raise InvalidPayload(f"the definition has no proposal `{name}`; it has {known}", name=name)
        if rule.dedup == "key" and not (dedup_key or caused_by):
            raise NoOccasion(name)
        issued_ms = now_ms if issued_at is None else time_ms("issued_at", issued_at, name)
        valid_until = None if valid_for is None else issued_ms + duration_ms("valid_for", valid_for, name)
        sender = self._sender if proposer is None else proposer
        return self._checked(
            made_message(
                Kind.PROPOSAL,
                name,
                input_id=proposal_id,
                entity_id=snapshot.entity_id,
                payload=payload_values(payload, rule.payload, name),
                event_time=issued_ms,
                issued_at=issued_ms,
                dedup_key=dedup_key,
                caused_by=caused_by,
                valid_until=valid_until,
                base_version=snapshot.version,
                base_incarnation=snapshot.incarnation,
                proposer=sender,
                read_at=snapshot.read_at,
            )
        )

    def would_accept(self, snapshot: Snapshot, name: str, payload: Mapping[str, Given] | None, now_ms: int) -> Decision:
        """Return the ladder's decision on a proposal on this state; see `AsyncClient.would_accept`."""
        message = self.proposal(snapshot, name, payload, now_ms, proposal_id="would-accept", dedup_key="would-accept")
        checked = check_message(self.machine, message)
        if isinstance(checked, str):
            raise InvalidPayload(checked, name=name)
        decision, _ = decide(self.machine, snapshot.state, checked, None, Times(now_ms, now_ms))
        return decision

    def _checked(self, message: Message) -> Message:
        """Return the message as the gate will decode it, defaults filled in."""
        if not 0 < len(message.input_id) <= _INPUT_ID_MAX:
            raise InvalidPayload(
                f"the id has {len(message.input_id)} characters; 1 to {_INPUT_ID_MAX} are allowed",
                name=message.name,
            )
        limits = {
            "entity_id": (message.entity_id, 1, ENTITY_ID_BYTES_MAX),
            "dedup_key": (message.dedup_key or "", 0, _KEY_BYTES_MAX),
            "caused_by": (message.caused_by or "", 0, _KEY_BYTES_MAX),
        }
        for what, (text, least, most) in limits.items():
            size = len(text.encode(errors="surrogatepass"))
            if not least <= size <= most:
                raise InvalidPayload(f"{what} has {size} bytes; {least} to {most} are allowed", name=message.name)
        return self.codec.decode(message.kind, self.codec.encode_message(message))
