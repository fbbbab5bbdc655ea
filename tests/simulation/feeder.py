"""Producers of inputs in a simulated world: single records, and transactions that commit or abort."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from placet.processors.address import partition_of
from placet.schemas.codec.codec import Codec
from placet.schemas.messages import Kind, Message
from placet.simulation.brokers.log import ABORT, COMMIT, Piece, ProducerBatch
from placet.simulation.brokers.transactions import OpenTransaction
from placet.streams.records import ConsumerRecord
from placet.streams.rules.rulebook import Rulebook
from placet.streams.topology import control_topic
from tests.simulation.rules import APP, CODEC, CODECS, DEFINITION, ENTITIES, PARTITIONS, TOPICS

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Feeder"]

_NAMES: Final = (
    "opened", "opened", "opened", "counted", "counted", "noted", "seen", "greeted", "planned", "hold", "hold",
    "release", "annotate", "removed",
)  # fmt: skip
_RETRIED_MAX: Final = 16
"""Of the inputs that were sent last, any may be sent again, byte by byte: its sender had heard no answer."""
_PRODUCER_ID: Final = 7


class Feeder:
    """Producers of inputs: single records, and transactions that commit or abort."""

    def __init__(self, world: World) -> None:
        self.sent = 0
        self.quiet_until_ns = 0
        self._world = world
        self._scale = world.scale
        self._open = False
        self._sequences: dict[tuple[str, int], int] = {}
        self._sent: list[Message] = []
        self._rulebook = Rulebook(control_topic(APP))
        self._codecs: list[Codec] = []
        self._later()

    @property
    def done(self) -> bool:
        """Whether all inputs are sent."""
        return self.sent >= self._scale.inputs and not self._open

    def _later(self) -> None:
        self._world.scheduler.later((1 + self._world.choices.pick(12)) * self._scale.pause_ms * 1_000_000, self._feed)

    def _feed(self) -> None:
        if self._world.scheduler.now_ns >= self.quiet_until_ns:
            self.feed()
        if self.sent < self._scale.inputs:
            self._later()

    def feed(self) -> None:
        """Send some inputs now."""
        choices = self._world.choices
        many = 1 + choices.pick(4)
        if choices.pick(6) == 0 and not self._open:
            self._transaction(many)
        else:
            for _ in range(many):
                self._append(self._message(), -1, poison=choices.pick(20) == 0)

    def feed_each(self) -> None:
        """Send an input to each partition now: a gate commits positions of all of its inputs with it."""
        for number in range(PARTITIONS):
            entity = next(name for name in ENTITIES if partition_of(name.encode(), PARTITIONS) == number)
            self._append(replace(self._new_message(), entity_id=entity), -1)

    def remove_each(self) -> None:
        """Have every entity deleted now."""
        now = self._world.cluster.network.clock_ms(1)
        for entity in ENTITIES:
            self._append(
                Message(Kind.SIGNAL, "removed", f"r-{self.sent}", entity, {}, now, now, None, None, None, 0, 0), -1
            )

    def _transaction(self, many: int) -> None:
        self._open = True
        written = {at: None for at in (self._append(self._message(), _PRODUCER_ID) for _ in range(many)) if at}
        world, transaction = self._world, OpenTransaction(_PRODUCER_ID)
        transaction.epoch, transaction.places = 0, written
        transaction.result = (ABORT, COMMIT, COMMIT)[world.choices.pick(3)]

        def ended() -> None:
            self._open = False

        world.scheduler.later(
            (1 + world.choices.pick(20)) * 100_000_000, lambda: world.cluster.write_markers(transaction, ended)
        )

    def _append(self, message: Message, producer_id: int, *, poison: bool = False) -> tuple[str, int] | None:
        cluster, key = self._world.cluster, message.entity_id.encode()
        topic = TOPICS.signals if message.kind is Kind.SIGNAL else TOPICS.proposals
        at = (topic, partition_of(key, PARTITIONS))
        found, codec = cluster.partition(at), self._codec()
        if found is None or found.leader < 0 or not found.takes_writes or codec is None:
            return None
        transactional, value = producer_id >= 0, self._poison() if poison else codec.encode_message(message)
        sequence = self._sequences.get(at, 0) if transactional else -1
        batch = ProducerBatch(producer_id, 0, sequence, transactional, [Piece(key, value, None)])
        found.log.append(batch, cluster.network.clock_ms(found.leader))
        cluster.replicate_soon(found)
        self._sequences[at] = sequence + 1 if transactional else self._sequences.get(at, 0)
        self.sent += 1
        return at

    def _poison(self) -> bytes:
        """Return what no gate can read: no record at all, or one of a schema that nobody has, which ends a batch."""
        return b"{}" if self._scale.note_bytes or self._world.choices.pick(2) else b"\xc3\x01schemaXY"

    def _codec(self) -> Codec | None:
        """Return the codec of a producer of any version that was published by now, and not overtaken; None before."""
        world = self._world
        if not world.scale.rolls:
            return CODEC
        at = (control_topic(APP), 0)
        entries, end, _ = world.cluster.log(at).read(self._rulebook.position, 100, committed=True)
        if entries:
            records = [
                ConsumerRecord(*at, one.offset, one.timestamp, one.key, one.value, one.headers) for one in entries
            ]
            self._rulebook.take(records, end)
            self._codecs = [CODECS[entry.digest] for entry in self._rulebook.of(DEFINITION.entity)]
        return self._codecs[world.choices.pick(len(self._codecs))] if self._codecs else None

    def _message(self) -> Message:
        choices = self._world.choices
        if self._sent and not self._scale.note_bytes and choices.pick(4) == 0:
            again = self._sent[choices.pick(len(self._sent))]
            now = self._world.cluster.network.clock_ms(1)  # the same occasion again, as if it were new
            return replace(again, event_time=now, issued_at=now) if choices.pick(4) == 0 else again
        message = self._new_message()
        self._sent = [*self._sent[1 - _RETRIED_MAX :], message]
        return message

    def _new_message(self) -> Message:
        choices, number, now = self._world.choices, self.sent, self._world.cluster.network.clock_ms(1)
        entity, name = ENTITIES[choices.pick(len(ENTITIES))], _NAMES[choices.pick(len(_NAMES))]
        note = f"n{number}"
        if self._scale.note_bytes:
            begun, rest = divmod(number, len(ENTITIES))
            entity, note = ENTITIES[rest], "n" * self._scale.note_bytes
            name = ("opened", "noted", "counted")[min(begun, 2)]
        kind = Kind.SIGNAL if name in DEFINITION.signals else Kind.PROPOSAL
        count = number // 8  # often what it was before: accepted, and nothing changes
        payload = {
            "counted": {"count": count}, "seen": {"count": count}, "noted": {"note": note}, "annotate": {"note": note},
            "greeted": {"note": None},
            "planned": {"until": (now - 5_000, now + 300, now + 2_500, now + 20_000, None)[number % 5]},
        }.get(name, {})  # fmt: skip
        input_id = f"i-{number}" if choices.pick(12) else f"i-{max(0, number - 3)}"
        happened = now - (2_000, 40, 0, 0)[choices.pick(4)] if kind is Kind.SIGNAL else now
        occasion = f"k-{number}" if kind is Kind.PROPOSAL else None
        based = (choices.pick(4), None) if kind is Kind.PROPOSAL else (0, 0)
        issued = now + 45_000 if choices.pick(8) == 0 else now  # by a clock that is ahead
        return Message(
            kind, name, input_id, entity, payload, happened if kind is Kind.SIGNAL else issued, issued, None,
            occasion, None, *based, proposer=("me", "you")[number % 2],
            read_at=now - 360_000 * (number % 4 == 0),  # some thought too long
        )  # fmt: skip
