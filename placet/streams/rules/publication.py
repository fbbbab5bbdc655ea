"""What stands before a publication: a definition that does not go with what is in force changes nothing on the log.

    strict parse ─ compile, units ─ reads all that was written? ─ goes with the version in force? ─► publish
                                    never forced                  `placet run --force`

A version that stands on the topic already was checked when it came, and is not checked again. Whether this gate can run
what is in force is another question, and its loop's: it may leave it to others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from placet.processors.machine import compile_problems
from placet.schemas.codec.contracts import contracts
from placet.schemas.definition.checks import expressions
from placet.schemas.definition.diff import Difference, differences, other_code
from placet.schemas.definition.model import Definition
from placet.schemas.errors import SettingsError
from placet.schemas.in_force import InForce, can_not_read
from placet.streams.rules.control import refuse_unfit
from placet.streams.rules.rulebook import Rulebook

__all__ = ["Forced", "Survey", "check_publication", "does_not_compile", "not_overtaken", "vanished"]

Survey = Callable[[str, frozenset[str]], Mapping[str, int]]
"""Counts the entities of a type that stand in these statuses now, by status."""

_CONSEQUENCES: Final[dict[tuple[str, str], str]] = {
    ("statuses.", "removed"): "entities in a removed status stay in it, and each input about them is refused "
    "(ILLEGAL_TRANSITION), until a later version has the status again",
    ("fields.", "removed"): "values of a removed field stay in the states, out of sight, until a later version has it",
    ("fields.", "added without default"): "the field is null in the states that exist, until an input sets it",
    ("signals.", "removed"): "facts of a removed name are refused (INVALID_PAYLOAD)",
    ("proposals.", "removed"): "proposals of a removed name are refused (INVALID_PAYLOAD)",
    (".dedup", ""): "a retry that spans the change is applied a second time",
    ("horizon", ""): "a retry of what is forgotten already is applied a second time",
}
"""What happens when it is forced, by start or end of a difference's path, and its change."""


class Forced(NamedTuple):
    """A definition that was published in spite of differences: what they are, and what follows."""

    entity: str
    version: int
    what: str


def check_publication(
    definitions: Iterable[Definition], rulebook: Rulebook, survey: Survey, *, force: bool
) -> list[Forced]:
    """Check all definitions that are about to be published, before the first one is.

    Args:
        definitions: what this gate is about to run; they compile.
        rulebook: what the topic holds, read to its end.
        survey: counts entities; asked only where a status vanishes.
        force: let incompatible ones pass, but none that can't read what was written.

    Returns:
        Those that were forced.

    Raises:
        SettingsError: one of them does not go with what is in force; nothing was published.
    """
    forced = []
    _refuse_passed_over(definitions, rulebook)
    for definition in definitions:
        if (definition.entity, definition.digest) not in rulebook.published:
            refuse_unfit(definition, rulebook.published.values())
            found = _checked(definition, rulebook, survey, force=force)
            if found:
                forced.append(Forced(definition.entity, definition.version, found))
    return forced


def not_overtaken(definitions: Iterable[Definition], rulebook: Rulebook) -> list[Definition]:
    """Return those that are in force, or are to be: of the others a higher version is in force, and decides."""
    newest = {definition.entity: rulebook.in_force(definition.entity).newest for definition in definitions}
    return [
        definition
        for definition in definitions
        if (found := newest[definition.entity]) is None or found.published.version <= definition.version
    ]


def _refuse_passed_over(definitions: Iterable[Definition], rulebook: Rulebook) -> None:
    """Refuse to run what stands on the topic and is passed over by everybody: states would be met that it can't read.

    Raises:
        SettingsError: a definition is one of those.
    """
    for definition in definitions:
        for published, why in rulebook.in_force(definition.entity).passed_over:
            if published.digest == definition.digest:
                raise SettingsError(
                    f"definition {definition.entity} version {definition.version} stands on {rulebook.topic}, but is "
                    f"passed over by everybody: {why}. Give its rules a higher version that reads what was written."
                )


def _checked(definition: Definition, rulebook: Rulebook, survey: Survey, *, force: bool) -> str:
    """Return what is incompatible; "" where nothing is, or nothing was published yet."""
    head = f"definition {definition.entity} version {definition.version}"
    known = rulebook.in_force(definition.entity)
    wrong = does_not_compile(definition, known)
    if wrong:
        raise SettingsError(f"{head} is not published:\n{wrong}")
    why = can_not_read(contracts(definition).change, known.usable)
    if why:
        raise SettingsError(
            f"{head} is not published: {why}. A field is never given another type: give it another name. This can't be "
            "forced."
        )
    if known.newest is None:
        return ""
    changes = differences(known.newest.definition, definition)
    changes += [item for earlier in known.usable for item in other_code(earlier.definition, definition)]
    found = [item for item in dict.fromkeys(changes) if not item.compatible]
    if not found:
        return ""
    gone = frozenset(status for item in found if (status := vanished(item)))
    counts = survey(definition.entity, gone) if gone else {}
    lines = [_line(item, counts) for item in found]
    what = "\n".join([*lines, *dict.fromkeys(f"  forced: {text}" for item in found for text in _follows(item))])
    if not force:
        raise SettingsError(
            f"{head} is not published: it is incompatible with version {known.newest.published.version}, which is in "
            f"force:\n{what}\nMend it (`placet definitions diff` shows everything), or start once with --force "
            "(PLACET_FORCE=true), if what it says is meant."
        )
    return what


def does_not_compile(definition: Definition, known: InForce) -> str:
    """Say what `placet definitions validate` refuses; "" where nothing.

    Units that are wrong in an expression of a published version are left: a withdrawal is no time for it, and the next
    change needs not mend them.
    """
    before = {text for found in known.usable for _, text in expressions(found.definition) if isinstance(text, str)}
    return "\n".join(map(str, compile_problems(definition, before)))


def vanished(item: Difference) -> str:
    """Return the status that a difference removes, "" where it removes none."""
    section, _, status = item.path.partition(".")
    return status if section == "statuses" and item.change == "removed" else ""


def _line(item: Difference, counts: Mapping[str, int]) -> str:
    status = vanished(item)
    if not status:
        return f"  {item.path} {item.change}: {item.why}"
    count = counts.get(status, 0)
    standing = f"{count:,} entities stand" if count != 1 else "1 entity stands"
    return f"  {item.path} {item.change}: {standing} in it now. {item.why}"


def _follows(item: Difference) -> list[str]:
    return [
        text
        for (path, change), text in _CONSEQUENCES.items()
        if change in ("", item.change)
        and (item.path.endswith(path) if path.startswith(".") else _within(item.path, path))
    ]


def _within(path: str, section: str) -> bool:
    """Tell whether a path names something of a section itself, not of what is inside it."""
    return path == section or (path.startswith(section) and "." not in path.removeprefix(section))
