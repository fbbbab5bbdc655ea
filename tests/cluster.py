"""Three real brokers as one cluster, with a controller beside them: replication factor 3, two in sync.

The controller is a process of its own, as in production. Were it one of the brokers, the loss of that one would cost an
election of controllers first, and then a whole session again before any leader is elected: 20 s where 9 s are set.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from placet.devbroker.broker import Broker, new_cluster_id
from placet.devbroker.settings import HOST, free_port

CONTROLLER = 9
REPLICATION = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    # Among brokers. The coordinator of a transaction waits so long for a leader that fell silent, and with it who
    # reads committed records of that partition; 30 s by default.
    "request.timeout.ms": "5000",
    "controlled.shutdown.enable": "true",
}


class Cluster:
    """The brokers, by node id, and their controller.

    Args:
        session_timeout_ms: after how long without a heartbeat the controller gives a broker up.
    """

    def __init__(self, session_timeout_ms: int) -> None:
        self._cluster_id = new_cluster_id()
        port = free_port()
        common = {
            **REPLICATION,
            "controller.quorum.voters": f"{CONTROLLER}@{HOST}:{port}",
            "broker.session.timeout.ms": str(session_timeout_ms),
        }
        listener = f"CONTROLLER://{HOST}:{port}"
        self.controller = self._node(port, common, CONTROLLER, "controller", listener)
        self.brokers: dict[int, Broker] = {}
        for node in (1, 2, 3):
            port = free_port()
            self.brokers[node] = self._node(port, common, node, "broker", f"PLAINTEXT://{HOST}:{port}")

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{HOST}:{broker.port}" for broker in self.brokers.values())

    def __enter__(self) -> Self:
        try:
            _each(Broker.start, [self.controller, *self.brokers.values()])  # at once: none is ready without the other
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the brokers, which take their leave of the controller, and then it."""
        _each(Broker.close, list(self.brokers.values()))
        self.controller.close()

    def _node(self, port: int, common: dict[str, str], node: int, role: str, listener: str) -> Broker:
        own = {"node.id": str(node), "process.roles": role, "listeners": listener, "advertised.listeners": listener}
        return Broker(port=port, cluster_id=self._cluster_id, heap_mib=320, settings={**common, **own})


def _each(do: Callable[[Broker], None], nodes: list[Broker]) -> None:
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(do, nodes))
