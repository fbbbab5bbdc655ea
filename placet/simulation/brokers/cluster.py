"""A cluster: topics on brokers that come and go, coordinators that move, and the network between them and clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from confluent_kafka import KafkaError

from placet.simulation.brokers.groups import Group, Member
from placet.simulation.brokers.log import PartitionLog
from placet.simulation.brokers.markers import write_markers
from placet.simulation.brokers.network import Handle, Network, OnReply, Reply, Sender
from placet.simulation.brokers.nodes import LeaderView, Node, Replicas, Topic
from placet.simulation.brokers.transactions import OpenTransaction, TransactionCoordinator
from placet.simulation.scheduler import Scheduler

__all__ = ["NOT_COORDINATOR", "NOT_LEADER", "OK", "SimulatedCluster"]

OK: Final = 0
NOT_LEADER: Final = int(KafkaError.NOT_LEADER_FOR_PARTITION)
NOT_COORDINATOR: Final = int(KafkaError.NOT_COORDINATOR)
_NOT_AVAILABLE: Final = int(KafkaError.COORDINATOR_NOT_AVAILABLE)
_READS: Final = frozenset({"OffsetFetch", "ConsumerGroupDescribe"})
"""Requests to a coordinator that write nothing to its own topic."""
_MS: Final = 1_000_000
_LOOK_AGAIN_NS: Final = 200 * _MS
_GROUP_DEFAULTS: Final = {
    "consumer.session.timeout.ms": "6000",
    "consumer.heartbeat.interval.ms": "1000",
    "consumer.assignment.interval.ms": "0",
}

At: TypeAlias = tuple[str, int]


class SimulatedCluster:
    """All of it.

    Args:
        scheduler: makes things happen later.
        brokers: how many there are.

    Attributes:
        network: the brokers, and what is between them and clients.
        cluster_id: of this cluster.
        election_ns: how long a broker is waited for before others lead in its place.
        cleanup_every_ns: how often transactions are looked at that are open for too long.
    """

    def __init__(self, scheduler: Scheduler, brokers: int = 3) -> None:
        self.scheduler = scheduler
        self.choices = scheduler.choices
        self.network = Network(scheduler, brokers)
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}
        self.transactions = TransactionCoordinator(self.write_markers, self._watch)
        self.group_coordinator = 1
        self.transaction_coordinator = min(2, brokers)
        self._own = Replicas("of the coordinators", 0, tuple(self.network.nodes), 2)
        self.loading_until_ns = 0
        self.election_ns = 3_000 * _MS
        self.cleanup_every_ns = 1_000 * _MS
        self.cluster_id = "simulated-cluster-0001"
        self._made = 0

    # -- what there is -------------------------------------------------------------------------------------------------

    def create_topic(self, name: str, partitions: int, configs: dict[str, str]) -> Topic:
        """Make a topic, or make it anew."""
        self._made += 1
        numbers = list(self.network.nodes)

        def replicas(number: int) -> tuple[int, ...]:
            first = (number + self._made) % len(numbers)
            return (*numbers[first:], *numbers[:first])

        least = int(configs.get("min.insync.replicas", 1))
        made = [Replicas(name, number, replicas(number), least) for number in range(partitions)]
        self.delete_topic(name)
        topic = self.topics[name] = Topic(name, f"topic{self._made:017d}", made, configs)
        return topic

    def add_partitions(self, name: str, partitions: int) -> None:
        """Let a topic have this many partitions. Groups that read it divide them anew."""
        found, numbers = self.topics[name], tuple(self.network.nodes)
        least = found.partitions[0].least
        for number in range(len(found.partitions), partitions):
            found.partitions.append(Replicas(name, number, numbers, least))
        for group in self.groups.values():
            group.topics_changed()

    def delete_topic(self, name: str) -> None:
        """Delete a topic, if there is one; those who wait at its leaders are told."""
        deleted = self.topics.pop(name, None)
        for partition in deleted.partitions if deleted is not None else ():
            self._tell(partition)

    def partition(self, at: At) -> Replicas | None:
        """Return a partition, None where there is no such one."""
        topic = self.topics.get(at[0])
        return topic.partitions[at[1]] if topic is not None and 0 <= at[1] < len(topic.partitions) else None

    def log(self, at: At) -> PartitionLog:
        """Return a partition's log."""
        return self.topics[at[0]].partitions[at[1]].log

    def leader_of(self, at: At) -> int:
        """Return the number of the broker that leads a partition, -1 where nobody does."""
        found = self.partition(at)
        return -1 if found is None else found.leader

    def group(self, name: str) -> Group:
        """Return a group, made when it is asked for first."""
        if name not in self.groups:
            self.groups[name] = Group(
                lambda topic: len(self.topics[topic].partitions) if topic in self.topics else 0,
                dict(_GROUP_DEFAULTS),
            )
        return self.groups[name]

    # -- coordinators --------------------------------------------------------------------------------------------------

    def ask_group_coordinator(self, sender: Sender, handle: Handle, on_reply: OnReply, timeout_ns: int) -> None:
        """Send a request to the coordinator of groups."""
        self._ask_coordinator("group_coordinator", sender, handle, on_reply, timeout_ns)

    def ask_transaction_coordinator(self, sender: Sender, handle: Handle, on_reply: OnReply, timeout_ns: int) -> None:
        """Send a request to the coordinator of transactions."""
        self._ask_coordinator("transaction_coordinator", sender, handle, on_reply, timeout_ns)

    def _ask_coordinator(self, role: str, sender: Sender, handle: Handle, on_reply: OnReply, timeout_ns: int) -> None:
        number: int = getattr(self, role)

        def at_broker(reply: Reply) -> None:
            if getattr(self, role) != number:
                reply(NOT_COORDINATOR, None)
            elif self.scheduler.now_ns < self.loading_until_ns:
                reply(int(KafkaError.COORDINATOR_LOAD_IN_PROGRESS), None)
            elif sender.what not in _READS and not self._own.takes_writes:
                reply(_NOT_AVAILABLE, None)
            else:
                handle(reply)

        self.network.send(sender, number, at_broker, on_reply, timeout_ns)

    # -- partitions ----------------------------------------------------------------------------------------------------

    def replicate_soon(self, partition: Replicas) -> None:
        """Let the followers have what was appended, after a moment; not while one of them is away and counts still.

        Nor while there are too few of them: then nothing more is taken for replicated.
        """
        if self.network.near:
            partition.log.replicate()
        elif not partition.replicating:
            partition.replicating = True
            self.scheduler.later(self.network.latency_ns(), partial(self._replicate, partition))

    def _replicate(self, partition: Replicas) -> None:
        partition.replicating = False
        all_there = partition.takes_writes and all(map(self.network.works, partition.in_sync))
        if partition.leader > 0 and all_there:
            partition.log.replicate()

    # -- transactions --------------------------------------------------------------------------------------------------

    def write_markers(self, ended: OpenTransaction, done: Callable[[], None]) -> None:
        """Write a marker to each partition and group, each when it comes, and again until all replicas have it."""
        write_markers(self, ended, done)

    def takes_markers(self, number: int, replicas: Replicas | None) -> bool:
        """Tell whether a broker can take a marker, and the coordinator send it. `replicas`: None of a group's."""
        return (
            number > 0
            and self.network.works(number)
            and self.network.works(self.transaction_coordinator)
            and (replicas or self._own).takes_writes
            and self.scheduler.now_ns >= self.loading_until_ns
        )

    def _watch(self, transaction: OpenTransaction) -> None:
        number = transaction.number
        late_ns = transaction.timeout_ns + self.choices.pick(10) * self.cleanup_every_ns // 10

        def look() -> None:
            if self.network.works(self.transaction_coordinator) and self._own.takes_writes:
                self.transactions.time_out(transaction, number)
            elif transaction.number == number:
                self.scheduler.later(self.cleanup_every_ns, look)

        self.scheduler.later(late_ns, look)

    # -- brokers -------------------------------------------------------------------------------------------------------

    def stop(self, number: int) -> None:
        """Let a broker's process end: its connections break at once, others lead its partitions a while later."""
        node = self.network.nodes[number]
        node.up, node.silent = False, False
        node.held.clear()
        node.views.clear()
        self.network.break_connections(number)
        self._elect_later(node)

    def freeze(self, number: int) -> None:
        """Let a broker fall silent: its connections stay, and what is sent to it is answered when it goes on."""
        self.network.nodes[number].silent = True
        self._elect_later(self.network.nodes[number])

    def isolate(self, number: int) -> None:
        """Cut a broker off from the others. It knows nothing of its successors, and tells clients that ask it offsets
        what it knew: leaders have no lease. All else that clients ask of it is answered when it is back.
        """
        partitions = [partition for topic in self.topics.values() for partition in topic.partitions]
        self.network.nodes[number].views = {
            (one.log.topic, one.log.number): one.view() for one in partitions if one.leader == number
        }
        self.freeze(number)

    def former_view(self, at: At) -> LeaderView | None:
        """Return what a broker says of a partition that it believes to lead, if there is one that was deposed."""
        leader = self.leader_of(at)
        views = (node.views.get(at) for node in self.network.nodes.values() if node.number != leader)
        return next((view for view in views if view is not None), None)

    def go_on(self, number: int) -> None:
        """Start a broker, or let it speak again. It is in sync after a moment."""
        node = self.network.nodes[number]
        if node.silent:
            node.silent = False
            held, node.held = node.held, []
            for arrive in held:
                arrive()
        elif not node.up:
            node.up = True
            node.generation += 1
            if number in (self.group_coordinator, self.transaction_coordinator):  # back before anybody took over
                self._load(groups=number == self.group_coordinator)
        self.scheduler.later(self.network.latency_ns() * 20, partial(self._catch_up, node, node.generation))

    def is_whole(self) -> bool:
        """Tell whether every partition can be written to."""
        partitions = [partition for topic in self.topics.values() for partition in topic.partitions]
        return all(partition.leader >= 0 and partition.takes_writes for partition in partitions)

    def move_coordinators(self, to: int) -> None:
        """Let another broker coordinate groups and transactions; it has to load them first. One that does goes on."""
        before = self.group_coordinator
        if {before, self.transaction_coordinator} != {to}:
            self.group_coordinator = self.transaction_coordinator = to
            self._load(groups=before != to)

    def _load(self, *, groups: bool) -> None:
        self.loading_until_ns = self.scheduler.now_ns + self.choices.pick(8) * 100 * _MS
        for group in self.groups.values() if groups else ():  # who loads a group gives each member a session of its own
            for member in group.members.values():
                member.heard += 1
                self.expect_heartbeat(group, member)

    def expect_heartbeat(self, group: Group, member: Member) -> None:
        """Let a member's session end, unless it is heard of until then."""
        heard, after_ns = member.heard, max(0, self.loading_until_ns - self.scheduler.now_ns)

        def expire() -> None:
            if self.network.works(self.group_coordinator):
                group.expire(member.member_id, heard)
            else:  # it is silent, and looks as soon as it goes on
                self.scheduler.later(_LOOK_AGAIN_NS, expire)

        after_ns += group.setting_ns("session.timeout")
        self.scheduler.later(after_ns, expire)

    def _elect_later(self, node: Node) -> None:
        generation = node.generation

        def elect() -> None:
            if self.network.works(node.number) or node.generation != generation:
                return
            for topic in self.topics.values():
                for partition in topic.partitions:
                    self._do_without(partition, node.number)
            self._own.leave(node.number)
            able = [
                number for number in self.network.nodes if number in self._own.in_sync and self.network.works(number)
            ]
            if able and node.number in (self.group_coordinator, self.transaction_coordinator):
                self.move_coordinators(able[self.choices.pick(len(able))])

        self.scheduler.later(self.election_ns, elect)

    def _do_without(self, partition: Replicas, gone: int) -> None:
        partition.leave(gone)
        if partition.leader == gone:
            able = [
                number for number in partition.replicas if number in partition.in_sync and self.network.works(number)
            ]
            partition.leader = able[0] if able else -1
            if able and self.choices.pick(2):
                partition.log.lose_unreplicated()
            self._tell(partition)
        self.replicate_soon(partition)

    def _catch_up(self, node: Node, generation: int) -> None:
        if not self.network.works(node.number) or node.generation != generation:
            return
        node.views.clear()
        working = {number for number in self.network.nodes if self.network.works(number)}
        for topic in self.topics.values():
            for partition in topic.partitions:
                if partition.leader < 0 and node.number in partition.in_sync:  # nobody else has all of it
                    partition.leader = node.number
                    self._tell(partition)
                if partition.leader in working:
                    partition.in_sync |= working
                    self.replicate_soon(partition)
        coordinators = {self.group_coordinator, self.transaction_coordinator}
        if not coordinators <= working and node.number in self._own.in_sync:
            self.move_coordinators(node.number)
        if self._own.in_sync & working:
            self._own.in_sync |= working

    def _tell(self, partition: Replicas) -> None:
        """Those who wait at the leader of before are told."""
        changed, partition.log.changed = partition.log.changed, []
        for call in changed:
            call()
