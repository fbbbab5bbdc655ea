"""The rules in force, as far as the control topic was read: which entity types this gate decides for, and how.

control records ── Rulebook ── the version in force ──► Rules of each entity type, from the next transaction on
                                                   └──► none: this gate can't run it, and leaves it to others

A gate that can run none of them waits outside the group until it can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from placet.processors.ladder import LADDER
from placet.processors.rules import Rules
from placet.schemas.codec.control import Published
from placet.schemas.definition.model import Definition, parse_definition
from placet.schemas.errors import DefinitionError, SettingsError
from placet.schemas.in_force import Usable
from placet.streams.entity_type import EntityType
from placet.streams.errors import TaskMigrated
from placet.streams.loop.observer import Observer
from placet.streams.records import TopicPartition
from placet.streams.rules.control import Control
from placet.streams.topology import TaskId

__all__ = ["RulesInForce"]

_LOOK_AGAIN_S: Final = 30.0
_OTHERS: Final = "others decide it"
_OUTSIDE: Final = "this gate waits outside the group until it can run something, and others take its tasks over"


class RulesInForce:
    """Follows the control topic, and has the entity types as its newest record leaves them.

    Attributes:
        entity_types: by entity name, those whose rules in force this gate can run.
        entity_of: by input topic, of all that it was started with.
        closed: whether the gate has ended.

    Args:
        entity_types: as the gate starts with them.
        control: the topic of rules, read to its end.
        observer: is told of rules that change, that are passed over, and that can't be run here.
        make_rules: compiles a definition.
        monotonic_s: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        entity_types: dict[str, EntityType],
        control: Control,
        observer: Observer,
        make_rules: Callable[[Definition], Rules],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._control = control
        self._observer = observer
        self._make_rules = make_rules
        self._monotonic_s = monotonic_s
        self._all = dict(entity_types)
        self.entity_of = {topic: name for name, kind in entity_types.items() for topic in kind.topics.inputs}
        self._why_not: dict[str, str] = {}
        self.entity_types: dict[str, EntityType] = {}
        self.closed = False
        self._taken_at, self._look_again_at_s = -1, 0.0
        self._take()

    @property
    def inputs(self) -> list[str]:
        """The topics that this gate subscribes to; none while it can run nothing of what is in force."""
        return [topic for kind in self.entity_types.values() for topic in kind.topics.inputs]

    def task_of(self, partition: TopicPartition) -> TaskId:
        """Return the task of an input partition."""
        return TaskId(self.entity_of[partition.topic], partition.partition)

    def inputs_of(self, task_id: TaskId) -> list[TopicPartition]:
        """Return a task's input partitions."""
        return [TopicPartition(topic, task_id.partition) for topic in self.entity_types[task_id.entity].topics.inputs]

    def complete(self, assigned: AbstractSet[TopicPartition]) -> set[TaskId]:
        """Return the tasks, of entity types that can be run here, all of whose input partitions are assigned."""
        tasks = {task_id for task_id in map(self.task_of, assigned) if task_id.entity in self.entity_types}
        return {task_id for task_id in tasks if assigned >= set(self.inputs_of(task_id))}

    @property
    def position(self) -> int:
        """How far the control topic was read."""
        return self._control.position

    def follow(self) -> bool:
        """Take what was published meanwhile; only between two transactions. Tell whether there was anything.

        Raises:
            TaskMigrated: this gate can't run the rules of an entity type any more, or can again: it has to join anew.
        """
        for published, why in self._control.follow():
            self._pass_over(published, why)
        if self._control.position == self._taken_at and not self._may_have_come():
            return False
        before = self._why_not.keys()
        self._take()
        if self._why_not.keys() != before:
            runs = f"the rules of {', '.join(self.entity_types)}" if self.entity_types else "nothing"
            raise TaskMigrated(f"of what is in force this gate can run {runs}")
        return True

    def _may_have_come(self) -> bool:
        """Tell whether to look again for what is missing here: a registry learns schemas. Outside, nobody waits."""
        return not self.entity_types and self._monotonic_s() >= self._look_again_at_s

    def close(self) -> None:
        """Give the reader of the topic back."""
        self.closed = True
        self._control.close()

    def why_not(self, published: Published) -> str:
        """Say why a version that is not in force could not be run here; "" where it could. From any thread.

        Raises:
            PlacetError: nobody knows.
        """
        if published.entity not in self._all:
            return ""
        try:
            why = _of_a_later_ladder(published)
            if not why:
                self._make_rules(parse_definition(published.document, ""))
        except (DefinitionError, SettingsError) as error:
            return str(error)
        return why

    def _take(self) -> None:
        position = self._taken_at = self._control.position
        self._look_again_at_s = self._monotonic_s() + _LOOK_AGAIN_S
        before, self._why_not = self._why_not, {}
        for name, kind in self._all.items():
            known = self._control.rulebook.in_force(name)
            rules, why = kind.rules, known.beyond
            if not why and known.newest is not None:
                rules, why = self._changed(rules, known.newest)
            self._all[name] = replace(kind, rules=rules.at(position))
            if why:
                self._why_not[name] = why
        self.entity_types = {name: kind for name, kind in self._all.items() if name not in self._why_not}
        if self._why_not != before:
            self._tell(before)

    def _tell(self, before: Mapping[str, str]) -> None:
        self._observer.can_not_run(self._why_not, outside=not self.entity_types)
        for name, why in self._why_not.items():
            if before.get(name) != why:
                then = _OTHERS if self.entity_types else _OUTSIDE
                do = f"run a release with the code that it needs here, or `placet definitions withdraw {name}`"
                self._observer.event("rules in force can't be run here", entity=name, why=why, then=then, do=do)

    def _changed(self, before: Rules, newest: Usable) -> tuple[Rules, str]:
        """Return the rules in force; or those before, and why this gate can't run them."""
        published = newest.published
        head = f"version {published.version} is in force"
        later = _of_a_later_ladder(published)
        if later:
            return before, f"{head}, and {later}"
        if published.digest == before.machine.digest:
            return before, ""
        try:
            rules = self._make_rules(newest.definition)
        except (DefinitionError, SettingsError) as error:
            if published.base or newest.definition.sources or not self._was_published(published.entity, before):
                return before, f"{head}, and can't be run here: {error}"
            self._pass_over(published, str(error))  # of an earlier release, which published first and looked afterwards
            return before, ""
        for passed_over, why in self._control.rulebook.teach({published.entity: rules.codec}):
            self._pass_over(passed_over, why)
        self._observer.rules(published.entity, published.version, published.digest)
        return rules, ""

    def _was_published(self, entity: str, rules: Rules) -> bool:
        return (entity, rules.machine.digest) in self._control.rulebook.published

    def _pass_over(self, published: Published, why: str) -> None:
        told = {"entity": published.entity, "version": published.version, "why": why}
        self._observer.event("published version passed over", **told)


def _of_a_later_ladder(published: Published) -> str:
    ladder = published.ladder
    return f"decided by ladder {ladder}; this release runs ladder {LADDER}" if ladder > LADDER else ""
