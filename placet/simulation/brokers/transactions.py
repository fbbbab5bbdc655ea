"""The transaction coordinator: who may write under a transactional id, and which transaction is open.

It speaks the old protocol (KIP-98), as librdkafka does to every broker: one epoch holds over many transactions, so that
a request to end a transaction which comes late ends the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError

from placet.simulation.brokers.log import ABORT, COMMIT

__all__ = ["EMPTY", "ONGOING", "OpenTransaction", "TransactionCoordinator"]

EMPTY: Final = "empty"
ONGOING: Final = "ongoing"
_ENDING: Final = "ending"
_ENDED: Final = "ended"
_TIMEOUT_MAX_NS: Final = 900_000_000_000
"""A broker's default of `transaction.max.timeout.ms`."""
OK: Final = 0


class OpenTransaction:
    """A transactional id: its producer's id and epoch, and its transaction.

    Attributes:
        state: empty, ongoing, ending (the markers are under way) or ended.
        result: how it ended last, `COMMIT` or `ABORT`.
        places: partitions that it has written to, (topic, number), and groups, (group, -1).
    """

    __slots__ = ("began_ns", "epoch", "name", "number", "places", "producer_id", "result", "state", "timeout_ns")

    def __init__(self, producer_id: int, name: str = "") -> None:
        self.name = name
        self.producer_id = producer_id
        self.epoch = -1
        self.state = EMPTY
        self.result = ""
        self.places: dict[tuple[str, int], None] = {}
        self.timeout_ns = 0
        self.began_ns = 0
        self.number = 0  # counts transactions, so that a timeout is about its own


class TransactionCoordinator:
    """All transactional ids. What it decides is durable at once.

    Args:
        write_markers: is given a transaction that has ended, and calls back when all its markers are written.
        watch: is given an ongoing transaction, to look at it when its timeout is over.

    Attributes:
        on_end: is told of each transaction that ends, before its markers are written.
    """

    def __init__(
        self,
        write_markers: Callable[[OpenTransaction, Callable[[], None]], None],
        watch: Callable[[OpenTransaction], None],
    ) -> None:
        self.by_id: dict[str, OpenTransaction] = {}
        self._by_producer: dict[int, OpenTransaction] = {}
        self.on_end: Callable[[OpenTransaction], None] | None = None
        self._write_markers = write_markers
        self._watch = watch
        self._next_producer_id = 1_000

    def new_producer_id(self) -> int:
        """Return an id that no producer has yet."""
        self._next_producer_id += 1
        return self._next_producer_id

    def init(self, transactional_id: str, timeout_ns: int) -> tuple[int, int, int]:
        """InitProducerId. Returns an error's code or 0, producer id and epoch."""
        if timeout_ns > _TIMEOUT_MAX_NS:
            return int(KafkaError.INVALID_TRANSACTION_TIMEOUT), -1, -1
        found = self.by_id.get(transactional_id)
        if found is None:
            found = self.by_id[transactional_id] = OpenTransaction(self.new_producer_id(), transactional_id)
            self._by_producer[found.producer_id] = found
        if found.state == ONGOING:
            found.epoch += 1  # fences the one that has it open
            self._end(found, ABORT)
        if found.state == _ENDING:
            return int(KafkaError.CONCURRENT_TRANSACTIONS), -1, -1
        found.epoch += 1
        found.state, found.timeout_ns = EMPTY, timeout_ns
        return OK, found.producer_id, found.epoch

    def add(
        self, transactional_id: str, producer_id: int, epoch: int, places: list[tuple[str, int]], now_ns: int
    ) -> int:
        """AddPartitionsToTxn and AddOffsetsToTxn. Returns an error's code or 0."""
        found = self.by_id.get(transactional_id)
        if found is None or found.producer_id != producer_id:
            return int(KafkaError.INVALID_PRODUCER_ID_MAPPING)
        if found.epoch != epoch:
            return int(KafkaError.INVALID_PRODUCER_EPOCH)
        if found.state == _ENDING:
            return int(KafkaError.CONCURRENT_TRANSACTIONS)
        if found.state != ONGOING:
            found.state, found.began_ns, found.number = ONGOING, now_ns, found.number + 1
            found.places = {}
            self._watch(found)
        found.places.update(dict.fromkeys(places))
        return OK

    def end(self, transactional_id: str, producer_id: int, epoch: int, result: str) -> int:
        """EndTxn. Returns an error's code or 0."""
        found = self.by_id.get(transactional_id)
        if found is None or found.producer_id != producer_id:
            return int(KafkaError.INVALID_PRODUCER_ID_MAPPING)
        if found.epoch != epoch:
            return int(KafkaError.INVALID_PRODUCER_EPOCH)
        if found.state == ONGOING:
            self._end(found, result)
            return OK
        if found.state == EMPTY or found.result != result:
            return int(KafkaError.INVALID_TXN_STATE)
        return OK if found.state == _ENDED else int(KafkaError.CONCURRENT_TRANSACTIONS)

    def check_write(self, producer_id: int, epoch: int, place: tuple[str, int]) -> int:
        """Tell a leader whether a transaction that it does not know is open here (KIP-890, part 1): a code or 0."""
        found = self._by_producer.get(producer_id)
        if found is None or found.epoch != epoch:
            return int(KafkaError.INVALID_PRODUCER_EPOCH)
        return OK if found.state == ONGOING and place in found.places else int(KafkaError.INVALID_TXN_STATE)

    def number_of(self, producer_id: int) -> int:
        """Return how many transactions a producer has begun."""
        found = self._by_producer.get(producer_id)
        return 0 if found is None else found.number

    def all_ended(self) -> bool:
        """Tell whether no transaction is open, and the markers of all that have ended are written."""
        return all(found.state not in (ONGOING, _ENDING) for found in self.by_id.values())

    def expire(self) -> None:
        """Forget the ids that were not used for long, `transactional.id.expiration.ms`: all that are not in use."""
        for name, found in list(self.by_id.items()):
            if found.state in (EMPTY, _ENDED):
                del self.by_id[name]
                del self._by_producer[found.producer_id]

    def time_out(self, found: OpenTransaction, number: int) -> None:
        """Abort a transaction that outlived its timeout, and fence its producer."""
        if found.state == ONGOING and found.number == number:
            found.epoch += 1
            self._end(found, ABORT)

    def _end(self, found: OpenTransaction, result: str) -> None:
        assert result in (COMMIT, ABORT)
        found.state, found.result = _ENDING, result
        if self.on_end is not None:
            self.on_end(found)

        def ended() -> None:
            found.state = _ENDED

        self._write_markers(found, ended)
