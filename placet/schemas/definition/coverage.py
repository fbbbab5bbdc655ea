"""What a definition leaves uncovered: what can never happen, and facts that nothing is said about. Warnings, all of it.

    definition ─► where each transition can be chosen ─► which statuses are entered ─► the rows below, one for each kind

A timer leads on as an input does. One of a time field that nothing sets is never armed, so that it leads nowhere.

Guards are not looked into: one that is there may hold or not, `"false"` too, so what a later version retired is quiet.

**Facts.** A fact in a status without a transition for it is refused, and each refusal raises an alarm: of a reading a
second, an alarm a second. But most facts belong to one status, and a warning about each would drown what matters. So a
fact is asked about only where its rule says that it comes again and again:

- `dedup: newest` is a stream: it comes in every status.
- A fact that stays in a status (`not_at_home` counts attempts) may come again: in that status, and in all that the
  entity can go on to from there, short of deletion. Not in those before, which it has nothing to do with yet.
- A fact that only moves on, or that is `dedup: once`, is over once it was applied.
- With `elsewhere: ignore` all is said.

Final statuses don't count: what is true of an entity after its end is worth an alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from placet.schemas.definition.problems import Problem
from placet.schemas.definition.yaml import Path
from placet.schemas.state import ABSENT

if TYPE_CHECKING:
    from placet.schemas.definition.model import Definition, SignalRule, TransitionRule

__all__ = ["KINDS_OF_WARNING", "warnings"]


class Way(NamedTuple):
    """A transition, and the statuses in which it can be chosen: no transition without guard stands before it."""

    path: Path
    transition: TransitionRule
    statuses: tuple[str, ...]

    def steps(self, entered: frozenset[str]) -> list[tuple[str, str]]:
        """Where it leads: (from, to) for each status that is entered."""
        to = self.transition.to
        return [(status, status if to is None else to) for status in self.statuses if status in entered]


class Reach(NamedTuple):
    """How far the transitions of a definition reach; `never_armed` are timers whose transitions are none of these."""

    definition: Definition
    ways: list[Way]
    entered: frozenset[str]
    never_armed: frozenset[str]

    def of(self, path: Path) -> Iterator[Way]:
        """The transitions of one input."""
        return (way for way in self.ways if way.path[:2] == path)


class KindOfWarning(NamedTuple):
    """One kind of gap: how it is found, and what is said about it; `{0}` is the name of what was found."""

    find: Callable[[Reach], Iterator[tuple[Path, str]]]
    message: str
    fix: str


def warnings(definition: Definition) -> list[Problem]:
    """Everything that may be meant, but is worth a look; in the order of paths."""
    reach = _reach(definition)
    if reach.entered == {ABSENT}:
        return [Problem((), "nothing creates the entity: each input is refused", "Add a transition `from: absent`.")]
    return sorted(
        (
            Problem(path, kind.message.format(what), kind.fix.format(what))
            for kind in KINDS_OF_WARNING
            for path, what in kind.find(reach)
        ),
        key=lambda problem: problem.path,
    )


def _reach(definition: Definition) -> Reach:
    """Follow all transitions. What sets a time field may itself be led to by a timer: so ask until nothing is new."""
    every = list(_ways(definition))
    never_armed = frozenset(
        name
        for name, timer in definition.timers.items()
        if timer.field and definition.fields[timer.field].default is None
    )
    while True:
        ways = [way for way in every if way.path[0] != "timers" or way.path[1] not in never_armed]
        entered = _entered(ways, {ABSENT})
        may_be_set = {field for way in ways if way.steps(entered) for field in _may_set(way.transition)}
        still = frozenset(name for name in never_armed if definition.timers[name].field not in may_be_set)
        if still == never_armed:
            return Reach(definition, ways, entered, never_armed)
        never_armed = still


def _may_set(transition: TransitionRule) -> Iterator[str]:
    """The fields to which it may give a value."""
    yield from transition.copied
    yield from (name for name, value in transition.assigned.items() if value is not None)


def _ways(definition: Definition) -> Iterator[Way]:
    for section, name, rule in definition.ways():
        taken: dict[bool, set[str]] = {False: set(), True: set()}  # late facts have transitions of their own
        for index, transition in enumerate(rule.transitions):
            leaves, behind = definition.statuses_from(transition), taken[transition.late]
            open_ = tuple(status for status in leaves if status not in behind)
            yield Way((section, name, "transitions", index), transition, open_)
            if transition.guard is None:
                behind.update(leaves)


def _entered(ways: Iterable[Way], start: Iterable[str], *, through_absent: bool = True) -> frozenset[str]:
    """All statuses that the entity can come to, those where it starts among them."""
    reached = frozenset(start)
    while True:
        leaves = reached if through_absent else reached - {ABSENT}
        more = reached.union(to for way in ways for _, to in way.steps(leaves))
        if more == reached:
            return reached
        reached = more


def _never_entered(reach: Reach) -> Iterator[tuple[Path, str]]:
    for index, status in enumerate(reach.definition.statuses):
        if status not in reach.entered:
            yield ("statuses", index), status


def _never_left(reach: Reach) -> Iterator[tuple[Path, str]]:
    everywhere = frozenset(reach.definition.statuses)
    left = {status for way in reach.ways for status, to in way.steps(everywhere) if to != status}
    for index, status in enumerate(reach.definition.statuses):
        if status not in left and status not in reach.definition.final:
            yield ("statuses", index), status


def _never_tried(reach: Reach) -> Iterator[tuple[Path, str]]:
    for way in reach.ways:
        if not way.steps(reach.entered):
            yield way.path, ", ".join(way.statuses) or "a status that `any` means (it leaves out final ones)"


def _never_armed(reach: Reach) -> Iterator[tuple[Path, str]]:
    for name, timer in reach.definition.timers.items():
        if name in reach.never_armed:
            yield ("timers", name, "at"), timer.field


def _changes_nothing(reach: Reach) -> Iterator[tuple[Path, str]]:
    return _without_effect(reach, "proposals", reach.definition.proposals)


def _fires_for_nothing(reach: Reach) -> Iterator[tuple[Path, str]]:
    return _without_effect(reach, "timers", reach.definition.timers)


def _without_effect(reach: Reach, section: str, names: Iterable[str]) -> Iterator[tuple[Path, str]]:
    for name in names:
        path: Path = (section, name)
        tried = [(way.transition, step) for way in reach.of(path) for step in way.steps(reach.entered)]
        if tried and not any(of.copied or of.assigned or status != to for of, (status, to) in tried):
            yield path, name


def _missed(reach: Reach) -> Iterator[tuple[Path, str]]:
    for name, rule in reach.definition.signals.items():
        covered = _covered(reach.definition, rule)
        comes = _where_it_comes(reach, name, rule) - covered - set(reach.definition.final)
        if missed := [status for status in reach.definition.statuses if status in comes]:
            yield ("signals", name), ", ".join(missed)


def _covered(definition: Definition, rule: SignalRule) -> set[str]:
    """The statuses in which a fact has a transition, if it is not late."""
    timely = (transition for transition in rule.transitions if not transition.late)
    return {status for transition in timely for status in definition.statuses_from(transition)}


def _ignores_nothing(reach: Reach) -> Iterator[tuple[Path, str]]:
    everywhere = {*reach.definition.statuses, ABSENT}
    for name, rule in reach.definition.signals.items():
        if rule.elsewhere == "ignore" and _covered(reach.definition, rule) >= everywhere:
            yield ("signals", name, "elsewhere"), name


def _where_it_comes(reach: Reach, name: str, rule: SignalRule) -> frozenset[str]:
    """The statuses in which a fact is to be expected; none, if it is over once it was applied."""
    if rule.elsewhere == "ignore":
        return frozenset()
    if rule.dedup == "newest":
        return reach.entered
    in_time = (way for way in reach.of(("signals", name)) if not way.transition.late)
    steps = [step for way in in_time for step in way.steps(reach.entered)]
    if rule.dedup == "once" or all(status != to for status, to in steps):
        return frozenset()
    return _entered(reach.ways, (to for _, to in steps), through_absent=False)


KINDS_OF_WARNING: Final = (
    KindOfWarning(
        _never_entered,
        "nothing reaches {0}",
        'Add a transition to it, or remove it. Kept for entities of an earlier version: one with `guard: "false"`.',
    ),
    KindOfWarning(_never_left, "nothing leaves {0}", "Add it to `final: [{0}]`."),
    KindOfWarning(
        _never_tried,
        "is never tried: the entity never comes to {0}",
        "Add a transition that leads there, or remove this one.",
    ),
    KindOfWarning(
        _changes_nothing,
        "{0} can never change anything: it stays where it is, and sets no field",
        "Add `to`, `copy` or `set`, or remove it.",
    ),
    KindOfWarning(
        _fires_for_nothing,
        "{0} fires, and never changes anything: it stays where it is, and sets no field",
        "Add `to` or `set`, or remove it.",
    ),
    KindOfWarning(
        _never_armed,
        "is never armed: nothing sets {0}, so that it is always null",
        "Set or copy {0} in a transition, or remove the timer.",
    ),
    KindOfWarning(
        _missed,
        "may come in {0}, and has no transition there: it is refused each time, with an alarm",
        "Add a transition, or `elsewhere: ignore`, which refuses it without an alarm.",
    ),
    KindOfWarning(_ignores_nothing, "{0} has a transition from each status, and from absent", "Remove it."),
)
"""All kinds of gaps; a new one is a row here."""
