"""Questions that a client asks a broker, and waits for the answer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from confluent_kafka import KafkaError

from placet.simulation.brokers.cluster import OK, SimulatedCluster
from placet.simulation.brokers.network import TIMED_OUT, TRANSPORT, Handle, OnReply
from placet.simulation.clients.message import failure
from placet.simulation.scheduler import Process, Waiters

__all__ = ["UNSTABLE", "any_broker", "asked", "metadata"]

RETRY_NS: Final = 100_000_000
UNSTABLE: Final = int(KafkaError.UNSTABLE_OFFSET_COMMIT)
_AGAIN: Final = frozenset({
    TRANSPORT, TIMED_OUT, UNSTABLE, int(KafkaError.NOT_COORDINATOR), int(KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
    int(KafkaError.COORDINATOR_NOT_AVAILABLE),
})  # fmt: skip


def asked(
    cluster: SimulatedCluster,
    process: Process,
    ask: Callable[[Handle, OnReply, int], None],
    handle: Handle,
    timeout: float,
) -> Any:
    """Ask until there is an answer, or the time is over.

    Args:
        cluster: whom.
        process: who asks.
        ask: sends the request, see `SimulatedCluster.send`.
        handle: what the broker does.
        timeout: in seconds; -1 for the client's own limit of a minute.

    Raises:
        KafkaException: the broker refuses, or the time is over.
    """
    scheduler, waiters, found = cluster.scheduler, Waiters(), list[tuple[int, Any]]()
    timeout_ns = round((timeout if timeout >= 0 else 60.0) * 1e9)
    limit_ns = scheduler.now_ns + timeout_ns

    def request() -> None:
        if scheduler.now_ns < limit_ns:
            ask(handle, replied, timeout_ns)

    def replied(code: int, value: Any) -> None:
        if code in _AGAIN:
            scheduler.later(RETRY_NS, request, process)
        else:
            found.append((code, value))
            scheduler.wake(waiters)

    request()
    while not found:
        left_ns = limit_ns - scheduler.now_ns
        if left_ns <= 0:
            raise failure(TIMED_OUT, retriable=True)
        scheduler.wait(process, waiters, left_ns)
    code, value = found[0]
    if code != OK:
        raise failure(code)
    return value


def any_broker(cluster: SimulatedCluster) -> int:
    """Return the number of a broker that works; 1 where none does."""
    numbers = [number for number in cluster.network.nodes if cluster.network.works(number)]
    return numbers[cluster.choices.pick(len(numbers))] if numbers else 1


def metadata(cluster: SimulatedCluster, topic: str) -> Any:
    """Return what `list_topics` returns."""
    return SimpleNamespace(
        cluster_id=cluster.cluster_id,
        brokers={
            number: SimpleNamespace(id=number, host="broker", port=number)
            for number, node in cluster.network.nodes.items()
            if node.up
        },
        topics={name: _topic(cluster, name) for name in ([topic] if topic else list(cluster.topics))},
    )


def _topic(cluster: SimulatedCluster, name: str) -> Any:
    found = cluster.topics.get(name)
    if found is None:
        return SimpleNamespace(topic=name, error=KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), partitions={})
    partitions = {
        number: SimpleNamespace(id=number, leader=partition.leader, replicas=list(partition.replicas), error=None)
        for number, partition in enumerate(found.partitions)
    }
    return SimpleNamespace(topic=name, error=None, partitions=partitions)
