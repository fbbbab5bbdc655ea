"""The group's stable positions, for many who ask at once: nobody waits, each answer is a future."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Final

from placet.streams.kafka.clients import Clients
from placet.streams.kafka.log_reader import close_quietly, committed_positions
from placet.streams.records import TopicPartition
from placet.streams.runtime import Inbox

__all__ = ["GroupPositions", "Positions"]

Positions = dict[TopicPartition, int | None]
"""Next positions; None for a partition that has none."""
_Question = tuple[list[TopicPartition], "Future[Positions | None]"]

_LEAST_S: Final = 0.2
_SLACK: Final = 4


class GroupPositions:
    """Asks the group's coordinator, in a thread of its own and by a consumer of its own.

    `committed` waits for its answer, and every other call of that consumer waits meanwhile, whichever thread makes it
    (confluent-kafka 2.16): reads of all restores would stand still with it. The admin client could ask without
    waiting, but librdkafka 2.16 ends the whole process where the coordinator has moved: the handler of the answer then
    turns to the client's own group, and an admin client has none (librdkafka #5040).

    Args:
        clients: makes the consumer, and the thread.
        options: librdkafka's options: group.id, isolation.level=read_committed.
        harmless: a partition whose position no transaction moves. The coordinator is asked for it first: one that
            answers this answers all else at once, or keeps silent about positions of an open transaction.
    """

    def __init__(self, clients: Clients, options: Mapping[str, object], harmless: TopicPartition) -> None:
        self._clients = clients
        self._consumer = clients.consumer(options)
        self._harmless = [harmless]
        self._inbox: Inbox[_Question | str] = clients.inbox()
        clients.spawn("ask for positions", self._run)

    def ask(self, partitions: list[TopicPartition]) -> Future[Positions | None]:
        """Ask for the positions of some partitions of one transaction: a task's.

        Returns:
            A future of the positions; of None while a transaction that moves one of them is open, or where no answer
            came in time; or with `LogUnreachable`.
        """
        answer: Future[Positions | None] = Future()
        self._inbox.put((partitions, answer))
        return answer

    def close(self) -> None:
        """Give the connections back, behind the question under way."""
        self._inbox.put("close")

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        order = self._inbox.get(None)
        while isinstance(order, tuple):
            questions, order = [order], self._inbox.get(0.0)
            while isinstance(order, tuple):
                questions.append(order)
                order = self._inbox.get(0.0)
            self._answer(questions)
            order = order or self._inbox.get(None)
        close_quietly(self._consumer)

    def _answer(self, questions: list[_Question]) -> None:
        began_s = self._clients.monotonic_s()
        try:
            found = committed_positions(self._consumer, self._harmless)
            limit_s = _LEAST_S + _SLACK * (self._clients.monotonic_s() - began_s)
            for partitions, answer in questions:
                known = None if found is None else committed_positions(self._consumer, partitions, limit_s)
                answer.set_result(known)
        except Exception as error:  # noqa: BLE001 - the thread's top: raised where the answers are taken
            for _, answer in questions:
                if not answer.done():
                    answer.set_exception(error)
