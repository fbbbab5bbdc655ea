"""What tasks belong to, looked at while they run: are their topics still those that they began with?

    ids, partitions ─── another topic, or keys of other owners ───┐
    first offsets ───── changelog or ledger lost its beginning ───┼──► each task of the topic stops by name
    the control's end ─ rules that were read are gone ────────────┘
    settings ────────── not as a start demands them ─────────────────► an event and a metric: nothing is lost yet

One question at a time, for all topics of the gate together, and nobody waits for an answer. No answer speaks against
nothing. Only another id is believed at once: a broker may hear late of what is new, and a leader that was deposed tells
what was, so all else has to be said again and again for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeVar

from placet.streams.entity_type import EntityType
from placet.streams.errors import TaskStopped
from placet.streams.kafka.admin_errors import UnknownTopic
from placet.streams.kafka.cluster import TopicInfo
from placet.streams.loop.observer import Observer
from placet.streams.loop.rules_in_force import RulesInForce
from placet.streams.records import TopicPartition
from placet.streams.recovery.contradictions import (
    begins_later,
    ends_before_the_rules,
    other_partitions,
    was_deleted,
    was_made_anew,
)
from placet.streams.topology import TaskId, control_topic, dead_letters_topic

__all__ = ["BrokersOfTopics", "Identity", "Unfit"]

_EVERY_S: Final = 30.0
_AGAIN_S: Final = 5.0
"""Between two questions while something is doubtful."""
_DOUBTED_S: Final = 10.0
"""For so long something has to be said: for a deposed leader to hear of it, and for all brokers to hear of a topic."""
_ALL: Final = -1
"""Stands for all partitions of a topic."""

_PUT_BACK: Final = "Put it back: until then a start refuses it, and brokers may remove what has to stay"
_MAKE_AGAIN: Final = "run `placet topics apply`; until then no input that does not decode can be decided"

Answer = TypeVar("Answer")
_Asking = Generator[None, None, dict[TopicPartition, str]]
Unfit = Callable[[Mapping[str, TopicInfo]], Mapping[str, Sequence[str]]]
"""Says of topics, each with its settings, what a start would refuse; those without a fault are left out."""


class BrokersOfTopics(Protocol):
    """Tell what topics are like. Each call returns at once; a future ends within some seconds."""

    def ask_topics(self, names: Iterable[str], /) -> Mapping[str, Future[TopicInfo]]:
        """Ask for topics, without their settings; `UnknownTopic` where the broker that was asked knows none."""
        ...

    def ask_configs(self, names: Iterable[str], /) -> Mapping[str, Future[dict[str, str]]]:
        """Ask for the settings of topics."""
        ...

    def ask_starts(self, partitions: Iterable[TopicPartition], /) -> Mapping[TopicPartition, Future[int]]:
        """Ask leaders for first offsets."""
        ...

    def ask_ends(self, partitions: Iterable[TopicPartition], /) -> Mapping[TopicPartition, Future[int]]:
        """Ask leaders for high watermarks."""
        ...


class Identity:
    """Asks about every 30 s whether topics are still what they were, and stops tasks by name that they are not.

    Args:
        brokers: are asked.
        rules: know the entity types with their topics, and how far the control topic was read.
        observer: is told of settings that a start would refuse.
        monotonic_s: a clock that never goes back, in seconds.
        unfit: see there.
    """

    def __init__(
        self,
        brokers: BrokersOfTopics,
        rules: RulesInForce,
        observer: Observer,
        monotonic_s: Callable[[], float],
        unfit: Unfit,
    ) -> None:
        self._brokers = brokers
        self._rules = rules
        self._observer = observer
        self._monotonic_s = monotonic_s
        self._unfit = unfit
        self._question: Iterator[None] = iter(())
        self._ask_at_s = 0.0
        self._doubts: dict[TopicPartition, float] = {}  # since when it has been said without a break
        self._wrong: dict[TopicPartition, str] = {}
        self._told: Mapping[str, Sequence[str]] = {}

    def check(self, tasks: Iterable[TaskId]) -> None:
        """Go on with the question, without waiting; begin another one when it is time, and forget the one before.

        Args:
            tasks: those that run.

        Raises:
            TaskStopped: one of them belongs to other topics than there are.
        """
        now_s = self._monotonic_s()
        if now_s >= self._ask_at_s:
            self._ask_at_s = now_s + _EVERY_S
            self._question = self._asked([*tasks])
        next(self._question, None)
        if self._wrong:
            for task_id in tasks:
                self._stop_if_wrong(task_id)

    def _stop_if_wrong(self, task_id: TaskId) -> None:
        kind = self._rules.entity_types[task_id.entity]
        for topic in kind.topic_ids:
            for partition in (_ALL, task_id.partition):
                why = self._wrong.get(TopicPartition(topic, partition))
                if why:
                    raise TaskStopped(task_id, why)

    def _asked(self, tasks: Sequence[TaskId]) -> Iterator[None]:
        """Ask, in two steps: offsets only of topics that are there, for a client looks in vain for others' leaders."""
        kinds = dict(self._rules.entity_types)
        known = {topic: topic_id for kind in kinds.values() for topic, topic_id in kind.topic_ids.items()}
        names = list(dict.fromkeys([*known, *(dead_letters_topic(kind.app) for kind in kinds.values())]))
        asked, asked_configs = self._brokers.ask_topics(names), self._brokers.ask_configs(names)
        yield from _until_done(asked, asked_configs)
        infos, configs = _values(asked), _values(asked_configs)
        anew = {
            TopicPartition(name, _ALL): was_made_anew(name, infos[name].topic_id, topic_id, "this gate")
            for name, topic_id in known.items()
            if name in infos and infos[name].topic_id != topic_id
        }
        gone = {
            TopicPartition(name, _ALL): was_deleted(name) if name in known else f"{name} is gone: {_MAKE_AGAIN}"
            for name, answer in asked.items()
            if isinstance(answer.exception(), UnknownTopic)
        }
        found = gone | {at: why for kind in kinds.values() for at, why in _of_partitions(kind, infos)}
        sound = infos.keys() - {at.topic for at in (*anew, *found)}
        there = {name: kind for name, kind in kinds.items() if kind.topic_ids.keys() <= sound}
        found |= yield from self._of_offsets(there, tasks)
        self._judge(found, anew)
        if all(name in configs or TopicPartition(name, _ALL) in gone for name in names):
            missing = {at.topic: [self._wrong[at]] for at in gone if at in self._wrong}
            whole = {name: info._replace(configs=configs[name]) for name, info in infos.items() if name in configs}
            faults = {
                name: [f"{fault}. {_PUT_BACK}" for fault in all_of] for name, all_of in self._unfit(whole).items()
            }
            self._tell({**faults, **missing})

    def _of_offsets(self, kinds: Mapping[str, EntityType], tasks: Iterable[TaskId]) -> _Asking:
        """Ask leaders where that begins of which all must stay, and where the control topic ends."""
        read_to = self._rules.position  # before the question: it may grow meanwhile, with the topic
        control = [TopicPartition(control_topic(kind.app), 0) for kind in kinds.values()][:1]
        logs = [
            TopicPartition(topic, task_id.partition)
            for task_id in tasks
            if (kind := kinds.get(task_id.entity))
            for topic in (kind.topics.changelog, kind.topics.ledger)
        ]
        starts, ends = self._brokers.ask_starts(logs), self._brokers.ask_ends(control)
        yield from _until_done(starts, ends)
        found = {at: begins_later(at, start) for at, start in _values(starts).items() if start > 0}
        for at, end in _values(ends).items():
            if end < read_to:
                found[TopicPartition(at.topic, _ALL)] = ends_before_the_rules(at.topic, end, read_to)
        return found

    def _judge(self, found: Mapping[TopicPartition, str], anew: Mapping[TopicPartition, str]) -> None:
        now_s = self._monotonic_s()
        self._doubts = {at: self._doubts.get(at, now_s) for at in found}
        said = {at: why for at, why in found.items() if now_s - self._doubts[at] >= _DOUBTED_S}
        self._wrong = {**said, **anew}
        if said.keys() != found.keys():
            self._ask_at_s = now_s + _AGAIN_S

    def _tell(self, unfit: Mapping[str, Sequence[str]]) -> None:
        for topic, faults in unfit.items():
            for fault in faults:
                if fault not in self._told.get(topic, ()):
                    self._observer.event("topic is not as it must be", topic=topic, why=fault)
        self._told = unfit
        self._observer.unfit_topics({topic: len(faults) for topic, faults in unfit.items()})


def _of_partitions(kind: EntityType, infos: Mapping[str, TopicInfo]) -> Iterator[tuple[TopicPartition, str]]:
    """Yield the topics of an entity type that have another number of partitions than its tasks were made for."""
    for topic in kind.topics:
        count = infos[topic].partitions if topic in infos else kind.partitions
        if count != kind.partitions:
            yield TopicPartition(topic, _ALL), other_partitions(f"{topic} has", count, kind.partitions, "this gate")


def _until_done(*asked: Mapping[Any, Future[Any]]) -> Iterator[None]:
    while not all(answer.done() for answers in asked for answer in answers.values()):
        yield


def _values(asked: Mapping[Any, Future[Answer]]) -> dict[Any, Answer]:
    """Return the answers; those that failed say nothing."""
    return {of: answer.result() for of, answer in asked.items() if answer.exception() is None}
