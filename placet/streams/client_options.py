"""librdkafka's options of the clients that a gate has, by what each is for."""

from __future__ import annotations

from typing import Final

from placet.streams.librdkafka_options import COMMITTED_RECORDS
from placet.streams.settings import Settings
from placet.streams.telemetry.log import client_logger
from placet.streams.topics.configs import output_bytes_max

__all__ = [
    "client_id",
    "gates_options",
    "group_options",
    "producer_options",
    "reader_options",
    "restore_options",
    "transaction_options",
]

_FETCH_BYTES: Final = 262_144
"""Compressed, of one partition: the client unpacks all of it at once, and what repeats takes 250 times as much then."""


def reader_options(settings: Settings, role: str) -> dict[str, object]:
    """Return the options of what reads committed records; `role` tells its client id from the others."""
    return settings.consumer_options() | {
        "client.id": f"{settings.app}.{settings.instance}.{role}",
        "logger": client_logger(),
        "group.id": settings.app,
        **COMMITTED_RECORDS,
        "fetch.message.max.bytes": _FETCH_BYTES,
        # An empty fetch is answered at once: the end of a partition is what a reader waits for.
        "fetch.wait.max.ms": 10,
    }


def restore_options(settings: Settings) -> dict[str, object]:
    """One reader serves all restores: who leads each partition is looked up often, as one may fall silent meanwhile."""
    return reader_options(settings, "restore") | {"topic.metadata.refresh.interval.ms": 1_000}


def gates_options(settings: Settings) -> dict[str, object]:
    """Return the options of a gate that listens to what it is asked: seldom, and to nothing that retention removed."""
    return reader_options(settings, "gates") | {"fetch.wait.max.ms": 1_000, "auto.offset.reset": "latest"}


def client_id(settings: Settings) -> str:
    """What the group's member and the producers call themselves, and the transactions."""
    return f"{settings.app}.{settings.instance}"


def group_options(settings: Settings) -> dict[str, object]:
    """Return the options of the group's member."""
    static = {"group.instance.id": settings.instance} if settings.static else {}
    return (
        settings.consumer_options()
        | {
            "client.id": client_id(settings),
            "logger": client_logger(),
            "group.id": settings.app,
            "group.protocol": "consumer",
            "group.remote.assignor": "range",
            **COMMITTED_RECORDS,
            "allow.auto.create.topics": False,
            # A partition that begins to flow waits for the fetch under way: shorter than the default half second.
            "fetch.wait.max.ms": 100,
            "fetch.message.max.bytes": _FETCH_BYTES,
            "queued.min.messages": 20_000,
        }
        | static
    )


def producer_options(settings: Settings) -> dict[str, object]:
    """Return the options of a producer that is durable, and of no transaction."""
    return settings.producer_options() | {
        "client.id": client_id(settings),
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "message.max.bytes": output_bytes_max(settings.record_bytes_max),
        "logger": client_logger(),
        "compression.type": "lz4",
    }


def transaction_options(settings: Settings) -> dict[str, object]:
    """Return the options of the transactional producer."""
    return producer_options(settings) | {
        "transactional.id": client_id(settings),
        "transaction.timeout.ms": settings.transaction_timeout_ms,
        "socket.timeout.ms": settings.transaction_timeout_ms,  # librdkafka takes no more: a later answer is of no use
        "linger.ms": 2,
        "batch.size": 262_144,
        "queue.buffering.max.messages": 1_000_000,
        # A transaction's records fit; the largest does in any case.
        "queue.buffering.max.kbytes": max(65_536, 2 * output_bytes_max(settings.record_bytes_max) // 1024),
    }
