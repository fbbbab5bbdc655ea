"""Consumer groups with the server's assignment (KIP-848), and their positions, also in transactions (KIP-447)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from confluent_kafka import KafkaError

__all__ = ["Beat", "Group", "Member"]

OK: Final = 0
_LEAVES: Final = -1
_LEAVES_FOR_A_WHILE: Final = -2

At = tuple[str, int]


class Member:
    """A member of a group.

    Attributes:
        epoch: which assignment it is at; -2 of a static member that is away and will be back.
        owned: what it may read, or has not given back yet, each with the epoch at which it was given.
    """

    def __init__(self, member_id: str, client_id: str, host: str, instance_id: str, topics: tuple[str, ...]) -> None:
        self.member_id = member_id
        self.client_id = client_id
        self.host = host
        self.instance_id = instance_id
        self.topics = topics
        self.epoch = 0
        self.previous_epoch = -1
        self.owned: dict[At, int] = {}
        self.heard = 0  # counts heartbeats: a session's end is about the last one

    def may_repeat(self, epoch: int, owned: Iterable[At] | None) -> bool:
        """Tell whether a heartbeat of the epoch before may be one whose answer was lost."""
        return epoch == self.previous_epoch and owned is not None and self.owned.keys() >= set(owned)


class Beat(NamedTuple):
    """A heartbeat's answer: an error's code or 0, the member's epoch, and what it may own."""

    error: int
    epoch: int = -1
    assigned: frozenset[At] = frozenset()


class Group:
    """One group.

    Args:
        partitions_of: tells how many partitions a topic has.
        settings: of the group, by Kafka's names.

    Attributes:
        pending: positions of open transactions, by producer id.
    """

    def __init__(self, partitions_of: Callable[[str], int], settings: dict[str, str]) -> None:
        self.settings = settings
        self.epoch = 0
        self.members: dict[str, Member] = {}
        self.positions: dict[At, int] = {}
        self.pending: dict[int, dict[At, int]] = {}
        self._partitions_of = partitions_of
        self._target: dict[str, frozenset[At]] = {}

    def setting_ns(self, name: str) -> int:
        """Return a setting that is a time."""
        return int(self.settings[f"consumer.{name}.ms"]) * 1_000_000

    # -- members -------------------------------------------------------------------------------------------------------

    def heartbeat(self, member: Member, epoch: int, owned: Iterable[At] | None) -> Beat:
        """Take a heartbeat.

        Args:
            member: as it describes itself; its id tells which one it is.
            epoch: which it says it has; 0 to join, -1 to leave, -2 to leave and come back.
            owned: what it reads, None where that did not change.

        Returns:
            The answer.
        """
        if epoch < 0:
            return self._leave(member, epoch)
        found = self.members.get(member.member_id)
        if found is None:
            if epoch > 0:
                return Beat(int(KafkaError.UNKNOWN_MEMBER_ID))
            found = self._join(member)
            if found is None:
                return Beat(int(KafkaError.UNRELEASED_INSTANCE_ID))
        elif epoch == 0:
            found.owned.clear()  # it begins anew
            found.epoch, found.previous_epoch = 0, -1
        elif epoch != found.epoch and not found.may_repeat(epoch, owned):
            return Beat(int(KafkaError.FENCED_MEMBER_EPOCH))
        found.heard += 1
        self._reconcile(found, None if owned is None else set(owned))
        return Beat(OK, found.epoch, self._target_of(found).intersection(found.owned))

    def expire(self, member_id: str, heard: int) -> bool:
        """Remove a member from which nothing was heard since; tell whether it was."""
        found = self.members.get(member_id)
        if found is None or found.heard != heard:
            return False
        del self.members[member_id]
        self._rebalance()
        return True

    def topics_changed(self) -> None:
        """Divide the topics' partitions anew: there are more of them."""
        self._rebalance()

    def _target_of(self, member: Member) -> frozenset[At]:
        return self._target.get(member.member_id, frozenset())

    def _join(self, member: Member) -> Member | None:
        for other in list(self.members.values()):
            if member.instance_id and other.instance_id == member.instance_id:
                if other.epoch != _LEAVES_FOR_A_WHILE:
                    return None
                del self.members[other.member_id]
        self.members[member.member_id] = member
        self._rebalance()
        return member

    def _leave(self, member: Member, epoch: int) -> Beat:
        found = self.members.get(member.member_id)
        if found is None:
            return Beat(int(KafkaError.UNKNOWN_MEMBER_ID))
        if epoch == _LEAVES_FOR_A_WHILE:
            found.epoch = epoch
            found.heard += 1
        else:
            del self.members[member.member_id]
            self._rebalance()
        return Beat(OK, epoch)

    def _rebalance(self) -> None:
        """Give each topic's partitions to the members that want it, in ranges of their ids' order."""
        self.epoch += 1
        target: dict[str, set[At]] = {member_id: set() for member_id in self.members}
        topics = sorted({topic for member in self.members.values() for topic in member.topics})
        for topic in topics:
            wanting = sorted(
                (member for member in self.members.values() if topic in member.topics),
                key=lambda member: (member.instance_id, member.member_id),
            )
            count, extra = divmod(self._partitions_of(topic), len(wanting))
            begin = 0
            for index, member in enumerate(wanting):
                size = count + (index < extra)
                target[member.member_id] |= {(topic, number) for number in range(begin, begin + size)}
                begin += size
        self._target = {member_id: frozenset(found) for member_id, found in target.items()}

    def _reconcile(self, member: Member, owned: set[At] | None) -> None:
        """Move a member towards its target: it gives back first, then it takes what nobody has."""
        target = self._target_of(member)
        mine = member.owned
        if mine.keys() != target:
            if owned is not None:
                for at in mine.keys() - target - owned:
                    del mine[at]
            if mine.keys() - target:  # it has yet to give something back
                return
            taken = {at for other in self.members.values() if other is not member for at in other.owned}
            mine.update(dict.fromkeys(target - taken - mine.keys(), self.epoch))
        if member.epoch != self.epoch:
            member.previous_epoch, member.epoch = member.epoch, self.epoch

    # -- positions -----------------------------------------------------------------------------------------------------

    def check(self, member_id: str, epoch: int, positions: Iterable[At], *, transactional: bool) -> int:
        """Check who stores positions. Returns a code or 0.

        In a transaction a broker does not check who names no member (KIP-447); nor, where there are no members, who
        names no epoch. An earlier epoch is good enough for what the member had then, and has still.
        """
        other_epoch = int(KafkaError.ILLEGAL_GENERATION if transactional else KafkaError.STALE_MEMBER_EPOCH)
        if epoch < 0 and (not self.members or (transactional and not member_id)):
            return OK
        if not (self.epoch or self.positions or self.pending):
            return int(KafkaError.ILLEGAL_GENERATION)  # nobody has heard of this group yet
        found = self.members.get(member_id)
        if found is None:
            return int(KafkaError.UNKNOWN_MEMBER_ID)
        kept = epoch < found.epoch and all(found.owned.get(at, found.epoch) <= epoch for at in positions)
        return OK if epoch == found.epoch or kept else other_epoch

    def store_in_transaction(self, producer_id: int, positions: Mapping[At, int]) -> None:
        """Keep positions until their transaction ends."""
        self.pending.setdefault(producer_id, {}).update(positions)

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Take or forget a transaction's positions."""
        found = self.pending.pop(producer_id, {})
        if committed:
            self.positions.update(found)

    def is_unstable(self, at: At) -> bool:
        """Tell whether an open transaction moves a position."""
        return any(at in positions for positions in self.pending.values())
