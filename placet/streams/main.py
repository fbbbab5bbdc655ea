"""The composition root: settings and definitions in, a running worker out. Nothing else builds parts."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from placet.processors.rules import Rules
from placet.schemas.definition.model import Definition
from placet.streams.client_options import (
    client_id,
    gates_options,
    group_options,
    producer_options,
    restore_options,
    transaction_options,
)
from placet.streams.entity_type import EntityType
from placet.streams.host import Host, LocalHost
from placet.streams.kafka.admin import Admin
from placet.streams.kafka.cluster import TopicInfo
from placet.streams.kafka.consumer import GroupConsumer
from placet.streams.kafka.group_positions import GroupPositions
from placet.streams.kafka.log_reader import LogReader
from placet.streams.kafka.partition_reader import PartitionReader
from placet.streams.kafka.plain_producer import produce_durably
from placet.streams.kafka.schema_registry import Registry, RegistryUnreachable, SchemaTexts
from placet.streams.kafka.transactional_producer import TransactionalProducer
from placet.streams.kafka.watchdog import Watchdog
from placet.streams.loop.broker_clocks import BrokerClocks
from placet.streams.loop.candidates import Candidates
from placet.streams.loop.function_watch import FunctionWatch
from placet.streams.loop.identity import Identity
from placet.streams.loop.idle import IdleQuestion
from placet.streams.loop.namesake import Namesake
from placet.streams.loop.observer import Observer
from placet.streams.loop.outside import Outside
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.loop.unknown_schemas import SchemaQuestion
from placet.streams.loop.worker import Worker
from placet.streams.publishing import (
    ELECTION_S,
    control_of,
    entity_type_of,
    group_members,
    log_reader,
    publisher_of,
    rules_of,
)
from placet.streams.records import TopicPartition
from placet.streams.recovery.kafka_log import KafkaRestoreLog
from placet.streams.recovery.left_behind import LeftBehind
from placet.streams.recovery.restore_thread import RESTORE_CALL_TIMEOUT_S, Restorer
from placet.streams.rules.control import Control
from placet.streams.runtime import Flag
from placet.streams.settings import Settings
from placet.streams.state.state_dir import check_state_dir
from placet.streams.telemetry.build import installed_version
from placet.streams.telemetry.metrics import Metrics
from placet.streams.topics.configs import topics_of
from placet.streams.topics.plan import check_topics, unfit_settings
from placet.streams.topology import control_topic, gates_topic

__all__ = ["ToldToStop", "build", "relax_garbage_collection", "run"]


RulesOf = Callable[[Host, Settings, Definition, SchemaTexts], Rules]
_REGISTRY_TRIES: Final = 5
_REGISTRY_PAUSE_S: Final = 1.0


class ToldToStop(Exception):
    """A signal came while the gate was being built: it ends in good order."""


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
    with _signals_noted(host) as stopping, suppress(ToldToStop):
        metrics.start()
        try:
            worker = build(host, settings, definitions, metrics, stopping)
            relax_garbage_collection()
            worker.run()
        finally:
            metrics.close()
    return 0


def build(
    host: Host,
    settings: Settings,
    definitions: tuple[Definition, ...],
    metrics: Observer,
    stopping: Flag,
    rules_of: RulesOf = rules_of,
) -> Worker:
    """Check the world, then make the parts. `rules_of` compiles what others publish, as far as this machine can."""
    check_state_dir(host, settings.state_dir / settings.app)
    admin = Admin(host, settings.librdkafka(), ELECTION_S)
    check_topics(admin, settings, definitions)
    session_timeout_ms = admin.session_timeout_ms(settings.app)
    settings.check_session_timeout(session_timeout_ms)
    schemas = SchemaTexts(_registry(host, settings), settings.registry.unknown_ids)
    entity_types = {
        definition.entity: entity_type_of(host, settings, admin, definition, schemas) for definition in definitions
    }
    reader = log_reader(host, settings, "control", [control_topic(settings.app)])
    control = control_of(host, reader, settings, admin)
    _publish(host, settings, definitions, entity_types, control, metrics, stopping)
    for entity, kind in entity_types.items():
        metrics.partitions(entity, kind.partitions)
    rules = RulesInForce(
        entity_types, control, metrics,
        lambda one: _in_time(host, lambda: rules_of(host, settings, one, schemas)), host.monotonic_s,
    )  # fmt: skip
    logs = [topic for kind in entity_types.values() for topic in (kind.topics.changelog, kind.topics.ledger)]
    inputs = [topic for kind in entity_types.values() for topic in kind.topics.inputs]
    control_partition = TopicPartition(control_topic(settings.app), 0)
    others = [*inputs, control_partition.topic]
    restorer = Restorer(
        host, host, lambda: _restore_log(host, settings, logs, others), settings.state_dir,
        control_partition, lambda: control.position,
        LeftBehind(host, host.now_ms, settings.state_dir / settings.app, settings.state_retention_ms).remove,
    )  # fmt: skip
    watchdog = Watchdog(host, settings.watchdog_ms, FunctionWatch(rules, metrics).look)
    producer = TransactionalProducer(host, transaction_options(settings), watchdog, settings.max_clock_skew_ms)
    namesake = Namesake(
        lambda: group_members(reader, admin, settings.app), client_id(settings), settings.instance,
        session_timeout_ms / 1000, metrics, host.monotonic_s, static=settings.static,
    )  # fmt: skip
    namesake.wait(stopping, metrics.awake)
    _answer_what_can_be_run(host, settings, admin, rules, metrics)
    admin.connect([*logs, *others])  # of which the loop's questions ask
    return Worker(
        rules,
        lambda: GroupConsumer(host, group_options(settings), rules.inputs) if rules.inputs else Outside(stopping),
        producer,
        restorer,
        host,
        metrics,
        stopping,
        IdleQuestion(
            admin,
            BrokerClocks(admin.ask_topics, host.now_ms, host.monotonic_s, settings.max_clock_skew_ms),
            host.monotonic_s,
        ),
        SchemaQuestion(host, control, lambda: admin.ask_ends([control_partition])[control_partition], schemas, metrics),
        Identity(admin, rules, metrics, host.monotonic_s, lambda found: _unfit(settings, rules, found)),
        records_max=settings.batch_records_max,
        poll_timeout_ms=settings.poll_timeout_ms,
        namesake=namesake,
        retention_ms=settings.state_retention_ms,
    )


def _registry(host: Host, settings: Settings) -> Registry | None:
    url = settings.registry.url
    return None if url is None else Registry(host, url, settings.registry_options())


def _in_time(host: Host, compiled: Callable[[], Rules]) -> Rules:
    """Compile a definition; a registry that does not answer for a moment delays it, and ends no running gate."""
    for _ in range(_REGISTRY_TRIES - 1):
        with suppress(RegistryUnreachable):
            return compiled()
        host.sleep(_REGISTRY_PAUSE_S)
    return compiled()


def _unfit(settings: Settings, rules: RulesInForce, found: Mapping[str, TopicInfo]) -> dict[str, list[str]]:
    horizons_ms = {entity: kind.rules.machine.horizon_ms for entity, kind in rules.entity_types.items()}
    return unfit_settings(topics_of(settings.app, horizons_ms, None, settings.record_bytes_max), found)


def _publish(
    host: Host,
    settings: Settings,
    definitions: tuple[Definition, ...],
    entity_types: dict[str, EntityType],
    control: Control,
    metrics: Observer,
    stopping: Flag,
) -> None:
    """Publish what this gate brings, if it is newer than what is in force."""

    def looked() -> None:
        metrics.awake()
        if stopping.is_set():
            raise ToldToStop

    def waits_for(gates: Sequence[str]) -> None:
        metrics.event("gates do not say yet whether they can run a new definition", gates=[*gates])

    publisher = publisher_of(host, settings, control, entity_types, waits_for, looked, client_id(settings))
    for one in publisher.publish(definitions, force=settings.force):
        metrics.event("incompatible definition forced", entity=one.entity, version=one.version, what=one.what)
    for published, why in publisher.unread():
        metrics.event("published version passed over", entity=published.entity, version=published.version, why=why)
    control.stay()


def _answer_what_can_be_run(
    host: Host, settings: Settings, admin: Admin, rules: RulesInForce, metrics: Observer
) -> None:
    partition = TopicPartition(gates_topic(settings.app), 0)
    Candidates(
        host, lambda: LogReader(host, gates_options(settings), [partition.topic]),
        partition, admin.latest_offsets([partition])[partition], rules,
        produce_durably(host, producer_options(settings), partition.topic),
        client_id(settings), installed_version(), metrics,
    ).listen()  # fmt: skip


def _restore_log(host: Host, settings: Settings, logs: list[str], others: list[str]) -> KafkaRestoreLog:
    reader = PartitionReader(host, restore_options(settings), logs)
    admin = Admin(host, settings.librdkafka(), RESTORE_CALL_TIMEOUT_S)
    admin.connect([*logs, *others])
    group = GroupPositions(host, restore_options(settings), TopicPartition(control_topic(settings.app), 0))
    return KafkaRestoreLog(host, reader, admin, group)


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
