"""What an operator should look at, in sentences: computed from a frame's numbers, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from placet.cli.top.frame import Gate, GateRules, Note, NoteLevel, Partition, PartitionPhase

__all__ = ["Rises", "notes_on", "rules_of_gates", "spell_s"]

_NAMED_MAX = 6
_YOUNG_S = 60.0
_OVERDUE_S = 60.0


class Rises(NamedTuple):
    """What grew since the last look and should not have, over all gates."""

    refused_facts: int
    dead_letters: int
    restore_warnings: int


def notes_on(
    gates: Iterable[Gate], partitions: Iterable[Partition], rises: Rises, window_s: float | None
) -> tuple[Note, ...]:
    """Say what needs somebody, then what is odd."""
    gates, partitions = list(gates), list(partitions)
    tasks = [*_stopped(partitions), *_waiting(partitions), *_without_a_gate(partitions)]
    bad = [*_silent(gates), *_can_not_run(gates), *tasks, *_same_names(gates)]
    gates_alone = [*_of_several_versions(gates), *_restarted(gates), *_aborted(gates)]
    odd = [*gates_alone, *_overdue(partitions), *_rising(rises, window_s or 0.0)]
    levels = [*((NoteLevel.BAD, text) for text in bad), *((NoteLevel.ODD, text) for text in odd)]
    return tuple(Note(level=level, text=text) for level, text in levels)


def spell_s(seconds: float) -> str:
    """Spell a duration in its largest unit: 850 ms, 12 s, 3 min, 2 h, 5 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    if seconds >= 9.95:
        return f"{seconds:.0f} s"
    return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds >= 0.9995 else f"{seconds * 1000:.0f} ms"


def _silent(gates: list[Gate]) -> Iterator[str]:
    for gate in gates:
        if gate.silent_s is not None:
            yield f"{gate.gate or gate.endpoint} has not answered for {spell_s(gate.silent_s)}: {gate.error}"


def _can_not_run(gates: list[Gate]) -> Iterator[str]:
    for gate in gates:
        if gate.unrunnable:
            names = ", ".join(gate.unrunnable)
            alone = "" if gate.rules else ", and has nothing else to do"
            why = "see `rules in force can't be run here` in its log"
            yield f"{gate.gate} can't run the definition in force of {names}{alone}: {why}"


def _stopped(partitions: list[Partition]) -> Iterator[str]:
    for row in partitions:
        if row.phase is PartitionPhase.STOPPED:
            yield f"{row.entity}-{row.partition} is stopped on {', '.join(row.gates)}: see `task stopped` in its log"


def _waiting(partitions: list[Partition]) -> Iterator[str]:
    for row in partitions:
        if row.phase is PartitionPhase.WAITING:
            gates = ", ".join(row.gates)
            schema = f" for schema {row.schema}, for {spell_s(row.schema_wait_s)}" if row.schema else ""
            yield f"{row.entity}-{row.partition} waits on {gates}{schema}: see `inputs wait for a schema` in its log"


def _without_a_gate(partitions: list[Partition]) -> Iterator[str]:
    known = Counter((row.app, row.entity) for row in partitions)
    for app, entity in known:
        nobody = (app, entity, PartitionPhase.NOBODY)
        alone = [row.partition for row in partitions if (row.app, row.entity, row.phase) == nobody]
        if alone:
            names = _names([str(number) for number in alone])
            yield f"no gate that answers has {len(alone)} of {known[app, entity]} partitions of {entity}: {names}"


def _same_names(gates: list[Gate]) -> Iterator[str]:
    names = Counter((gate.app, gate.gate) for gate in gates if gate.silent_s is None)
    for (_, name), count in names.items():
        if count > 1:
            yield f"{count} gates are called {name}: they fence each other, give each its own PLACET_INSTANCE"


def rules_of_gates(gates: Iterable[Gate]) -> dict[str, dict[GateRules, list[str]]]:
    """Return the gates that answer by entity type, with its app where there are several, and its rules."""
    found: dict[str, dict[GateRules, list[str]]] = {}
    answering = [gate for gate in gates if gate.silent_s is None]
    several = len({gate.app for gate in answering}) > 1
    for gate in answering:
        for entity, rules in gate.rules.items():
            name = f"{gate.app} {entity}" if several else entity
            found.setdefault(name, {}).setdefault(rules, []).append(gate.gate)
    return {entity: dict(sorted(rules.items())) for entity, rules in sorted(found.items())}


def _of_several_versions(gates: list[Gate]) -> Iterator[str]:
    for entity, found in rules_of_gates(gates).items():
        if len(found) > 1:
            same = Counter(rules.version for rules in found)
            said = ", ".join(f"{_version(rules, same)} on {_names(names)}" for rules, names in found.items())
            yield f"{entity} is decided by {said}: the rules have just changed, or a gate can't follow: see its log"


def _version(rules: GateRules, same: Counter[int]) -> str:
    return f"version {rules.version}" + (f" ({rules.digest[:8]})" if same[rules.version] > 1 else "")


def _names(names: list[str]) -> str:
    return ", ".join(names[:_NAMED_MAX]) + (", …" if len(names) > _NAMED_MAX else "")


def _restarted(gates: list[Gate]) -> Iterator[str]:
    for gate in gates:
        if gate.up_s is not None and gate.up_s < _YOUNG_S:
            yield f"{gate.gate} started {spell_s(gate.up_s)} ago"


def _aborted(gates: list[Gate]) -> Iterator[str]:
    for gate in gates:
        if gate.aborted:
            yield f"{gate.gate} lost {_many(gate.aborted, 'transaction')} and decides again: its log says why"


def _overdue(partitions: list[Partition]) -> Iterator[str]:
    late = [row for row in partitions if row.timer_overdue_s > _OVERDUE_S]
    if late:
        names = _names([f"{row.entity}-{row.partition}" for row in late])
        most = spell_s(max(row.timer_overdue_s for row in late))
        yield f"timers have been due for up to {most} in {names}: inputs wait there, or a broker does not answer"


def _rising(rises: Rises, window_s: float) -> Iterator[str]:
    lately = f"in the last {spell_s(round(window_s, 1))}"
    if rises.refused_facts:
        yield f"{_many(rises.refused_facts, 'fact')} refused {lately}: placet decisions tail --refused"
    if rises.dead_letters:
        yield f"{_many(rises.dead_letters, 'input')} did not decode {lately}: placet decisions dead-letters"
    if rises.restore_warnings:
        yield f"{_many(rises.restore_warnings, 'restore')} found something odd {lately}: the log has the sentence"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
