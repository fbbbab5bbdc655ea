"""The composition root: settings and definitions in, a running worker out. Nothing else builds parts."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from placet.processors.machine import compile_machine
from placet.processors.rules import Rules
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.control import Published
from placet.schemas.definition.model import Definition
from placet.streams.entity_type import EntityType
from placet.streams.errors import LogUnreachable
from placet.streams.host import Host, LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.clients import Clients
from placet.streams.kafka.consumer import GroupConsumer
from placet.streams.kafka.log_reader import LogReader
from placet.streams.kafka.partition_reader import PartitionReader
from placet.streams.kafka.plain_producer import produce_durably
from placet.streams.kafka.schema_registry import wire_of
from placet.streams.kafka.transactional_producer import TransactionalProducer
from placet.streams.kafka.watchdog import Watchdog
from placet.streams.librdkafka_options import COMMITTED_RECORDS
from placet.streams.loop.idle import IdleQuestion
from placet.streams.loop.namesake import GroupMember, Namesake
from placet.streams.loop.observer import Observer
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.loop.worker import Worker
from placet.streams.records import TopicPartition
from placet.streams.recovery.kafka_log import KafkaLog, KafkaRestoreLog
from placet.streams.recovery.restore_thread import RESTORE_CALL_TIMEOUT_S, Restorer
from placet.streams.rules.control import Control
from placet.streams.rules.publication import check_publication, not_overtaken
from placet.streams.rules.survey import count_standing
from placet.streams.runtime import Flag
from placet.streams.settings import Settings
from placet.streams.state.state_dir import check_state_dir
from placet.streams.telemetry.log import client_logger
from placet.streams.telemetry.metrics import Metrics
from placet.streams.topics.configs import output_bytes_max
from placet.streams.topics.plan import check_topics
from placet.streams.topology import control_topic, entity_topics

_ELECTION_S: Final = 20.0
"""How long a start waits for new leaders: they are elected after broker.session.timeout.ms, 9 s by default."""

__all__ = ["log_reader", "read_rules", "relax_garbage_collection", "run"]

_FETCH_BYTES: Final = 262_144
"""Compressed, of one partition: the client unpacks all of it at once, and what repeats takes 250 times as much then."""


class _ToldToStop(Exception):
    """A signal came while the gate was being built."""


def run(settings: Settings, definitions: Iterable[Definition], host: Host | None = None) -> int:
    """Run a gate until SIGTERM or SIGINT; finish the batch, commit, close, leave.

    Args:
        settings: complete.
        definitions: what it decides by.
        host: what it runs on; this machine where none is given.

    Returns:
        The exit code: 0 after a signal.

    Raises:
        SettingsError: state folder, topics, timeouts or definitions are wrong; nothing was read or written.
        ClockSkew, FatalError: see there; everything is closed.
    """
    definitions, host = tuple(definitions), host or LocalHost()
    metrics = Metrics(host, settings, definitions)
    with _signals_noted(host) as stopping, suppress(_ToldToStop):
        metrics.start()
        try:
            worker = build(host, settings, definitions, metrics, stopping)
            relax_garbage_collection()
            worker.run()
        finally:
            metrics.close()
    return 0


def build(
    host: Host, settings: Settings, definitions: tuple[Definition, ...], metrics: Observer, stopping: Flag
) -> Worker:
    """Check the world, then make the parts."""
    check_state_dir(host, settings.state_dir / settings.app)
    admin = Admin(host, settings.librdkafka(), _ELECTION_S)
    check_topics(admin, settings, definitions)
    session_timeout_ms = admin.session_timeout_ms(settings.app)
    settings.check_session_timeout(session_timeout_ms)
    entity_types = {definition.entity: _entity_type(host, settings, admin, definition) for definition in definitions}
    reader = log_reader(host, settings, "control", [control_topic(settings.app)])
    control = _control(host, reader, settings, admin)
    _publish(host, settings, definitions, entity_types, control, metrics, stopping)
    for entity, kind in entity_types.items():
        metrics.partitions(entity, kind.partitions)
    rules = RulesInForce(entity_types, control, metrics, lambda definition: _rules(host, settings, definition))
    logs = [topic for kind in entity_types.values() for topic in (kind.topics.changelog, kind.topics.ledger)]
    inputs = [topic for kind in entity_types.values() for topic in kind.topics.inputs]
    others = [*inputs, control_topic(settings.app)]
    restorer = Restorer(
        host, host, lambda: _restore_log(host, settings, logs, others), settings.state_dir,
        TopicPartition(control_topic(settings.app), 0), lambda: control.position,
    )  # fmt: skip
    producer = TransactionalProducer(
        host, _transaction_options(settings), Watchdog(host, settings.watchdog_ms), settings.max_clock_skew_ms
    )
    namesake = Namesake(
        lambda: _group(reader, admin, settings.app), _client_id(settings), settings.instance,
        session_timeout_ms / 1000, metrics, host.monotonic_s, static=settings.static,
    )  # fmt: skip
    namesake.wait(stopping, metrics.awake)
    admin.connect(inputs)  # of which the idle question asks
    return Worker(
        rules,
        lambda: GroupConsumer(host, _group_options(settings), rules.inputs),
        producer,
        restorer,
        host,
        metrics,
        stopping,
        IdleQuestion(admin, host.now_ms, settings.max_clock_skew_ms),
        records_max=settings.batch_records_max,
        poll_timeout_ms=settings.poll_timeout_ms,
        namesake=namesake,
    )


def _publish(
    host: Host,
    settings: Settings,
    definitions: tuple[Definition, ...],
    entity_types: dict[str, EntityType],
    control: Control,
    metrics: Observer,
    stopping: Flag,
) -> None:
    """Publish what runs here, once everything is checked that could stand against it."""

    def looked() -> None:
        metrics.awake()
        if stopping.is_set():
            raise _ToldToStop

    def standing(entity: str, statuses: frozenset[str]) -> Mapping[str, int]:
        kind = entity_types[entity]
        log = _log(host, settings, "survey", [kind.topics.changelog], _ELECTION_S)
        try:
            return count_standing(
                log, kind.rules.codec, kind.topics.changelog, kind.partitions, statuses, host.monotonic_s, looked
            )
        finally:
            log.close()

    control.read()
    rulebook, codecs = control.rulebook, {entity: kind.rules.codec for entity, kind in entity_types.items()}
    rulebook.teach(codecs)
    produce = produce_durably(host, _producer_options(settings), control_topic(settings.app))
    own, done = not_overtaken(definitions, rulebook), False
    while not done:  # again where another version came in between: that one was higher, or this one is
        forced = check_publication(own, rulebook, standing, force=settings.force)
        done = control.publish(own, produce, host.now_ms())
        own = not_overtaken(own, rulebook)
    for one in forced:
        metrics.event("incompatible definition forced", entity=one.entity, version=one.version, what=one.what)
    for published, why in rulebook.teach(codecs):
        metrics.event("published version passed over", entity=published.entity, version=published.version, why=why)
    control.stay()


def _log(host: Host, settings: Settings, role: str, topics: Iterable[str], timeout_s: float) -> KafkaLog:
    return KafkaLog(log_reader(host, settings, role, topics), Admin(host, settings.librdkafka(), timeout_s))


def _restore_log(host: Host, settings: Settings, logs: list[str], others: list[str]) -> KafkaRestoreLog:
    reader = PartitionReader(host, _restore_options(settings), logs)
    admin = Admin(host, settings.librdkafka(), RESTORE_CALL_TIMEOUT_S)
    admin.connect([*logs, *others])
    return KafkaRestoreLog(host, reader, admin)


def _entity_type(host: Host, settings: Settings, admin: Admin, definition: Definition) -> EntityType:
    topics = entity_topics(settings.app, definition.entity)
    described = admin.describe_topics(topics)
    ids = {topic: info.topic_id for topic, info in described.items()}
    partitions = described[topics.signals].partitions
    return EntityType(settings.app, _rules(host, settings, definition), topics, ids, partitions)


def _rules(host: Host, settings: Settings, definition: Definition) -> Rules:
    wire = wire_of(host, settings.registry.url, settings.registry_options(), settings.app, definition.entity)
    return Rules(compile_machine(definition), Codec(definition, wire, settings.record_bytes_max))


def _group(reader: LogReader, admin: Admin, app: str) -> tuple[int, list[GroupMember]]:
    """Ask who coordinates and who is in the gate's group, if its coordinator answers a harmless question first.

    Where the coordinator goes away amid the question itself, librdkafka 2.16 aborts the process (a use after free, see
    librdkafka #5397).

    Raises:
        LogUnreachable: it does not answer.
    """
    if reader.committed([TopicPartition(control_topic(app), 0)]) is None:
        raise LogUnreachable("the group's coordinator does not answer")
    return admin.coordinator_and_members(app)


def _control(host: Host, reader: LogReader, settings: Settings, admin: Admin) -> Control:
    topic = control_topic(settings.app)
    partition = TopicPartition(topic, 0)
    return Control(
        host,
        reader,
        topic,
        lambda: admin.latest_offsets([partition])[partition],
    )


def read_rules(host: Host, settings: Settings, admin: Admin) -> list[Published]:
    """Return what stands on the control topic, in its order.

    Raises:
        BrokerUnreachable, LogUnreachable: the brokers do not answer.
    """
    control = _control(host, log_reader(host, settings, "control", [control_topic(settings.app)]), settings, admin)
    try:
        control.read()
        return list(control.rulebook.published.values())
    finally:
        control.close()


def log_reader(clients: Clients, settings: Settings, role: str, topics: Iterable[str] = ()) -> LogReader:
    """Make a reader of committed records; `role` tells its client id from the others."""
    return LogReader(clients, _reader_options(settings, role), topics)


def _reader_options(settings: Settings, role: str) -> dict[str, object]:
    return settings.consumer_options() | {
        "client.id": f"{settings.app}.{settings.instance}.{role}",
        "logger": client_logger(),
        "group.id": settings.app,
        **COMMITTED_RECORDS,
        "fetch.message.max.bytes": _FETCH_BYTES,
        # An empty fetch is answered at once: the end of a partition is what a reader waits for.
        "fetch.wait.max.ms": 10,
    }


def _restore_options(settings: Settings) -> dict[str, object]:
    """One reader serves all restores: who leads each partition is looked up often, as one may fall silent meanwhile."""
    return _reader_options(settings, "restore") | {"topic.metadata.refresh.interval.ms": 1_000}


def _client_id(settings: Settings) -> str:
    """What the group's member and the producers call themselves, and the transactions."""
    return f"{settings.app}.{settings.instance}"


def _group_options(settings: Settings) -> dict[str, object]:
    static = {"group.instance.id": settings.instance} if settings.static else {}
    return (
        settings.consumer_options()
        | {
            "client.id": _client_id(settings),
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


def _producer_options(settings: Settings) -> dict[str, object]:
    return settings.producer_options() | {
        "client.id": _client_id(settings),
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "message.max.bytes": output_bytes_max(settings.record_bytes_max),
        "logger": client_logger(),
        "compression.type": "lz4",
    }


def _transaction_options(settings: Settings) -> dict[str, object]:
    return _producer_options(settings) | {
        "transactional.id": _client_id(settings),
        "transaction.timeout.ms": settings.transaction_timeout_ms,
        "socket.timeout.ms": settings.transaction_timeout_ms,  # librdkafka takes no more: a later answer is of no use
        "linger.ms": 2,
        "batch.size": 262_144,
        "queue.buffering.max.messages": 1_000_000,
        # A transaction's records fit; the largest does in any case.
        "queue.buffering.max.kbytes": max(65_536, 2 * output_bytes_max(settings.record_bytes_max) // 1024),
    }


def relax_garbage_collection() -> None:
    """Collect rarely: a batch makes thousands of objects that die with it, none in cycles (10 % of the time)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@contextmanager
def _signals_noted(host: Host) -> Iterator[Flag]:
    """Let SIGTERM and SIGINT set an event. Handlers only take a note: one that raises in a poll would lose records."""
    stopping = host.flag()

    def note(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
