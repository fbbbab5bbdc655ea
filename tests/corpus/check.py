"""What a release must make of a recorded log: the same decisions, and the same states."""

from __future__ import annotations

from hashlib import blake2b

from placet.definitions import parse_definition
from placet.processors.machine import compile_machine
from placet.schemas.codec.codec import Codec
from placet.streams.records import TopicPartition
from placet.streams.recovery.steps import Restoration
from placet.streams.rules.rulebook import EVERYTHING, Rulebook
from placet.streams.state import layout
from placet.streams.state.store import MemoryStore
from placet.streams.topology import TaskId, control_topic, entity_topics
from placet.verify.report import TaskReport
from placet.verify.rules import PastRules
from placet.verify.verify import EntityPlace, verify_task
from tests.corpus.recording import Recording
from tests.memory_log import restore_at_once
from tests.staged import StagedHost

__all__ = ["state_digest", "verified"]


def verified(recording: Recording, partition: int) -> TaskReport:
    """Verify one partition.

    Raises:
        SettingsError: it was decided by a ladder that this release does not know.
    """
    topics = entity_topics(recording.app, recording.entity)
    rules = PastRules(recording.entity, _rulebook(recording, EVERYTHING), None, 1_048_588)
    place = EntityPlace(topics, recording.topic_ids, recording.partitions, recording.lag_ms)
    host = StagedHost(now_ms=lambda: recording.now_ms)
    return verify_task(host, recording.log(), rules, place, TaskReport(TaskId(recording.entity, partition)))


def state_digest(recording: Recording, partition: int) -> str:
    """Restore one partition by the rules in force, and return a digest of what each entity is then."""
    rulebook = _rulebook(recording, ())
    newest = rulebook.in_force(recording.entity).newest
    assert newest is not None
    definition = parse_definition(newest.published.document)
    codec, machine = Codec(definition), compile_machine(definition)
    rulebook.teach({recording.entity: codec})
    form, store = layout.StateFormat(codec, machine.decimal_fields), MemoryStore()
    topics, task_id = entity_topics(recording.app, recording.entity), TaskId(recording.entity, partition)
    job = Restoration(
        task_id, topics, recording.topic_ids, recording.partitions, codec, form, store, recording.now_ms
    )  # fmt: skip
    restore_at_once(job, recording.log())
    digest = blake2b(digest_size=16)
    for key, value in store.scan(b"s", b"s", 1_000_000):
        state = form.load(value)
        digest.update(repr((key, state.version, state.incarnation, state.status, state.deleted_at)).encode())
        digest.update(repr(sorted(state.fields.items())).encode())
        digest.update(repr((sorted(state.field_versions.items()), sorted(state.applied.items()))).encode())
        if state.counts:
            digest.update(repr(sorted((what, sorted(by.items())) for what, by in state.counts.items())).encode())
    return digest.hexdigest()


def _rulebook(recording: Recording, explained: frozenset[str] | tuple[()]) -> Rulebook:
    place = TopicPartition(control_topic(recording.app), 0)
    rulebook = Rulebook(place.topic, explained)
    rulebook.take(recording.records[place], recording.ends[place])
    return rulebook
