"""How the embedded Kafka and its Java are set: for development, where a crash should be noticed within seconds."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from placet.schemas.errors import SettingsError

__all__ = ["DEFAULT_PORT", "HOST", "JVM", "SETTINGS", "TALKATIVE", "check_port", "free_port", "properties"]

HOST = "127.0.0.1"
DEFAULT_PORT = 9092

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    # One node: everything has one replica. Few partitions of Kafka's own topics: each costs files and memory.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "auto.create.topics.enable": "false",
    # A killed member is missed after 6 s, not 45; tests may go lower for a group of their own.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "300",
    # A killed producer's transaction is aborted at most this long after its timeout, so that readers go on.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # After kill -9 the same node registers again: the controller waits until the dead one's session has ended.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    # A broker that takes its leave hands over its partitions, to no one here, and still ends transactions meanwhile: it
    # finds no leaders, takes the topics for deleted and skips the commit markers (what follows from that:
    # `Broker._finish_predecessor`).
    "controlled.shutdown.enable": "false",
    # 128 MiB by default, a third of the heap.
    "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
}

JVM = (
    "-XX:+UseSerialGC",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Xlog:disable",  # Java's own warnings tell a user of Kafka nothing
    "-Xlog:all=error",
    "-Dorg.slf4j.simpleLogger.logFile=System.out",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",  # 300 lines at each start
)


TALKATIVE = ("-Dorg.slf4j.simpleLogger.log.org.apache.kafka.controller.QuorumController=debug",)
"""Flags of a controller alone: it says what it has committed."""

# A controller alone, that misses the broker soon: see `Broker._finish_predecessor`.
CONTROLLER_ALONE = {
    "process.roles": "controller",
    "broker.heartbeat.interval.ms": "100",
    "broker.session.timeout.ms": "300",
}


def properties(port: int, data: Path, settings: Mapping[str, str], *, alone: bool = False) -> str:
    """The text of server.properties; `settings` win over those of this module.

    Args:
        port: the broker's.
        data: the folder of Kafka's data.
        settings: the caller's own.
        alone: the controller without the broker.
    """
    controller = free_port()
    own = {
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "log.dirs": str(data),
    }
    if alone:
        own["listeners"] = f"CONTROLLER://{HOST}:{controller}"
        del own["advertised.listeners"]
    lines = {**SETTINGS, **own, **settings, **(CONTROLLER_ALONE if alone else {})}
    return "".join(f"{name}={value}\n" for name, value in lines.items())


def free_port() -> int:
    """A free port below the range that systems hand to outgoing connections (from 32768 on Linux, 49152 on macOS).

    One from that range can be lost while the broker restarts: a client that reconnects may be given it as its own
    port, and connect to itself.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        if _can_listen(port):
            return port


def check_port(port: int) -> None:
    """Looks whether the broker can listen there.

    Raises:
        SettingsError: something else does.
    """
    if not _can_listen(port):
        raise SettingsError(
            f"Port {port} of {HOST} is taken, maybe by another Kafka: choose another port with --port, "
            "or use what runs there with --bootstrap-servers."
        )


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: ended connections don't count
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True
