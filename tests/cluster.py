"""Three real brokers as one cluster, each a controller too: replication factor 3, two in sync."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from placet.streams.broker import Broker, new_cluster_id
from placet.streams.broker_settings import HOST, free_port

REPLICAS = "3"
IN_SYNC = "2"


class Cluster:
    """The brokers, by node id.

    Args:
        session_timeout_ms: after how long without a heartbeat the controller gives a broker up.
    """

    def __init__(self, session_timeout_ms: int) -> None:
        ports = {node: (free_port(), free_port()) for node in (1, 2, 3)}
        voters = ",".join(f"{node}@{HOST}:{controller}" for node, (_, controller) in ports.items())
        cluster_id = new_cluster_id()
        self.brokers = {
            node: Broker(
                port=port,
                cluster_id=cluster_id,
                heap_mib=320,
                settings=_settings(node, port, controller, voters, session_timeout_ms),
            )
            for node, (port, controller) in ports.items()
        }

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{HOST}:{broker.port}" for broker in self.brokers.values())

    def __enter__(self) -> Self:
        try:
            self._each(Broker.start)  # at once: one alone is no quorum, and never ready
        except BaseException:
            self._each(Broker.close)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._each(Broker.close)

    def _each(self, do: Callable[[Broker], None]) -> None:
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(do, self.brokers.values()))


def _settings(node: int, port: int, controller: int, voters: str, session_timeout_ms: int) -> dict[str, str]:
    return {
        "node.id": str(node),
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "controller.quorum.voters": voters,
        "default.replication.factor": REPLICAS,
        "min.insync.replicas": IN_SYNC,
        "offsets.topic.replication.factor": REPLICAS,
        "transaction.state.log.replication.factor": REPLICAS,
        "transaction.state.log.min.isr": IN_SYNC,
        "share.coordinator.state.topic.replication.factor": REPLICAS,
        "share.coordinator.state.topic.min.isr": IN_SYNC,
        "broker.session.timeout.ms": str(session_timeout_ms),
        # Among brokers. The coordinator of a transaction waits so long for a leader that fell silent, and with it who
        # reads committed records of that partition; 30 s by default.
        "request.timeout.ms": "5000",
        "controlled.shutdown.enable": "true",
    }
