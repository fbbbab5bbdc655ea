"""What changes between two versions of a definition, and whether what is on the log already survives it.

Compatible means: states and inputs written under the old definition can be read and handled under the new one, and a
retry that spans the change is still recognised. Rules (guards, targets, fences) may change freely with the version:
every decision names the definition that took it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

from placet.schemas.definition.field_types import Field, expected
from placet.schemas.definition.grammar import written_ms
from placet.schemas.definition.model import Definition, ProposalRule, SignalRule
from placet.schemas.definition.sources import changed_code, function_name, keep_both

__all__ = ["Difference", "differences", "is_compatible", "other_code"]


class Difference(NamedTuple):
    """One change: where, what, whether it is compatible, and why (or what to do)."""

    path: str
    change: str
    compatible: bool
    why: str


_VERSION_FIX = "The gate refuses it: raise `version`."


def is_compatible(found: list[Difference]) -> bool:
    """Whether a list of differences holds no incompatible one."""
    return all(difference.compatible for difference in found)


def differences(old: Definition, new: Definition) -> list[Difference]:
    """All differences, in the order of the file; empty when the rules are the same."""
    if old.digest == new.digest:
        return []
    return [
        *_heads(old, new),
        *_statuses(old, new),
        *_fields("fields", old.fields, new.fields, state=True),
        *_inputs("signals", old.signals, new.signals),
        *_inputs("proposals", old.proposals, new.proposals),
        *_timers(old, new),
        *_windows(old, new),
        *_invariants(old, new),
        *other_code(old, new),
    ]


def _heads(old: Definition, new: Definition) -> Iterator[Difference]:
    if old.entity != new.entity:
        why = "Topics and state belong to the old name: this is another entity type."
        yield Difference("entity", f"{old.entity} -> {new.entity}", False, why)
    if new.version < old.version:
        yield Difference("version", f"{old.version} -> {new.version}", False, f"Lower. {_VERSION_FIX}")
    elif new.version == old.version:
        yield Difference("version", f"{old.version}, with other rules", False, f"Same version. {_VERSION_FIX}")
    else:
        yield Difference("version", f"{old.version} -> {new.version}", True, "Higher, as it must be.")
    if new.horizon_ms < old.horizon_ms:
        why = "Retries older than the new horizon get TOO_LATE instead of DUPLICATE: refused, never applied twice."
        yield Difference("horizon", _change_of(old.horizon_ms, new.horizon_ms), True, why)
    elif new.horizon_ms > old.horizon_ms:
        why = (
            "What was applied before the old horizon is forgotten already: a retry of it would count as new. "
            f"Deploy when no retry can be older than {written_ms(old.horizon_ms)}."
        )
        yield Difference("horizon", _change_of(old.horizon_ms, new.horizon_ms), False, why)


def _change_of(old_ms: int, new_ms: int) -> str:
    return f"{written_ms(old_ms)} -> {written_ms(new_ms)}"


def _statuses(old: Definition, new: Definition) -> Iterator[Difference]:
    for status in old.statuses:
        if status not in new.statuses:
            yield Difference(f"statuses.{status}", "removed", False, "Entities may be in it: keep it, without ways in.")
    for status in new.statuses:
        if status not in old.statuses:
            yield Difference(f"statuses.{status}", "added", True, "No entity is in it yet.")
    for status in old.statuses:
        if status in new.statuses and (status in old.final) != (status in new.final):
            change = "is final now" if status in new.final else "is not final any more"
            yield Difference(f"final.{status}", change, True, "A rule: `any` covers other statuses now.")


def _fields(path: str, old: Mapping[str, Field], new: Mapping[str, Field], *, state: bool) -> Iterator[Difference]:
    for name in old:
        if name not in new:
            lost = "Sinks' columns lose it; values stay in the states, unseen."
            why = lost if state else "Producers still send it; retries differ."
            yield Difference(f"{path}.{name}", "removed", False, f"{why} Keep it, and stop using it.")
        else:
            yield from _field(f"{path}.{name}", old[name], new[name])
    for name, field in new.items():
        if name in old:
            continue
        if field.optional or field.has_default:
            yield Difference(f"{path}.{name}", "added", True, "Null or the default stands where it is missing.")
        else:
            where = "in the states that exist" if state else "in what is on the log and what producers send"
            yield Difference(
                f"{path}.{name}", "added without default", False, f"It is missing {where}: add a default or `| null`."
            )


def _field(path: str, old: Field, new: Field) -> Iterator[Difference]:
    if new.takes(old):
        if not old.takes(new):
            yield Difference(path, f"{expected(old)} -> {expected(new)}", True, "Every old value fits.")
    else:
        why = "Old values do not fit. A field is never re-typed: add one with a new name."
        yield Difference(path, f"{expected(old)} -> {expected(new)}", False, why)
    if (old.has_default, old.default) != (new.has_default, new.default):
        lost = old.has_default and not new.has_default and not new.optional
        change = f"default {_default(old)} -> {_default(new)}"
        why = "What was written without it has no value now." if lost else "Counts where the field is missing."
        yield Difference(path, change, not lost, why)


def _default(field: Field) -> str:
    return repr(field.default) if field.has_default else "none"


def _inputs(
    section: str, old: Mapping[str, SignalRule | ProposalRule], new: Mapping[str, SignalRule | ProposalRule]
) -> Iterator[Difference]:
    for name, rule in old.items():
        path = f"{section}.{name}"
        if name not in new:
            why = 'Records of it on the log and from producers no longer decode. Keep it, with a guard of "false".'
            yield Difference(path, "removed", False, why)
            continue
        yield from _fields(f"{path}.payload", rule.payload, new[name].payload, state=False)
        yield from _settings(path, rule.written(), new[name].written())
    for name in new:
        if name not in old:
            yield Difference(f"{section}.{name}", "added", True, "Nobody sends it yet.")


_SETTINGS: dict[str, tuple[bool, str]] = {
    "dedup": (False, "Occasions get other keys: a retry that spans the change would be applied again."),
    "late": (True, "A rule: the newest fact of its name is remembered whatever it says."),
    "elsewhere": (True, "A rule: facts that come in other statuses are an alarm, or none."),
    "fence": (True, "A rule: other changes make it stale."),
    "valid_for": (True, "A rule: it expires at another time."),
    "max_state_age": (True, "A rule: a proposal that does not say `read_at` yet is refused where it is asked for."),
    "limits": (True, "A rule: other proposals are RATE_LIMITED."),
    "priority": (True, "A rule."),
}
_UNWRITTEN: dict[str, str] = {"elsewhere": "refuse"}
"""What keys mean that the canonical form leaves out."""
_TRANSITIONS = "Rules: what was sent under the old ones is judged by the new ones."


def _settings(path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
    for key, (compatible, why) in _SETTINGS.items():
        was, comes = (written.get(key, _UNWRITTEN.get(key)) for written in (old, new))
        if was != comes:
            yield Difference(f"{path}.{key}", f"{_shown(was)} -> {_shown(comes)}", compatible, why)
    yield from _transitions(f"{path}.transitions", old["transitions"], new["transitions"])


def _timers(old: Definition, new: Definition) -> Iterator[Difference]:
    for name, timer in old.timers.items():
        path = f"timers.{name}"
        if name not in new.timers:
            yield Difference(path, "removed", True, "One that is armed is refused when it is due.")
            continue
        was, comes = timer.written(), new.timers[name].written()
        for key in ("after", "at"):
            if was.get(key) != comes.get(key):
                why = "One that is armed keeps its time: the new one counts from the next entry of the status on."
                yield Difference(f"{path}.{key}", f"{_shown(was.get(key))} -> {_shown(comes.get(key))}", True, why)
        yield from _transitions(f"{path}.transitions", was["transitions"], comes["transitions"])
    for name in new.timers:
        if name not in old.timers:
            yield Difference(f"timers.{name}", "added", True, "Entities that are in its status already have none.")


_REFUSES = "limits on it refuse until it was kept for `within`, unless it has `start: empty`"
_WINDOW: dict[str, str] = {
    "count": f"Something else is counted, from the change on: {_REFUSES}.",
    "sum": f"Something else is counted, from the change on: {_REFUSES}.",
    "by": f"It is counted otherwise, from the change on: {_REFUSES}.",
    "start": "What was counted is kept.",
}


def _windows(old: Definition, new: Definition) -> Iterator[Difference]:
    for name, window in old.windows.items():
        path = f"windows.{name}"
        if name not in new.windows:
            yield Difference(path, "removed", True, "If it comes back, it begins anew.")
            continue
        was, comes = window.written(), new.windows[name].written()
        for key, why in _WINDOW.items():
            if was.get(key) != comes.get(key):
                yield Difference(f"{path}.{key}", f"{_shown(was.get(key))} -> {_shown(comes.get(key))}", True, why)
        if window.within_ms != new.windows[name].within_ms:
            longer = f"What left it by the old one is not known any more: {_REFUSES}."
            why = longer if new.windows[name].within_ms > window.within_ms else "A rule: it reaches back less far."
            yield Difference(f"{path}.within", f"{was['within']} -> {comes['within']}", True, why)
    for name in new.windows:
        if name not in old.windows:
            why = f"It counts from the change on: {_REFUSES}."
            yield Difference(f"windows.{name}", "added", True, why)


def _transitions(path: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[Difference]:
    """Compare transitions by their place, part by part: the first whose guard holds wins."""
    for place, (was, comes) in enumerate(zip_longest(old, new)):
        if was is None or comes is None:
            change = f"added: {_shown(comes)}" if was is None else f"removed: {_shown(was)}"
            yield Difference(f"{path}.{place}", change, True, _TRANSITIONS)
            continue
        for part in dict.fromkeys((*was, *comes)):
            if was.get(part) != comes.get(part):
                change = f"{_shown(was.get(part))} -> {_shown(comes.get(part))}"
                yield Difference(f"{path}.{place}.{part}", change, True, _TRANSITIONS)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)


def _invariants(old: Definition, new: Definition) -> Iterator[Difference]:
    for name in old.invariants:
        if name not in new.invariants:
            yield Difference(f"invariants.{name}", f"removed: {old.invariants[name]}", True, "A rule less.")
    for name, text in new.invariants.items():
        if old.invariants.get(name) != text:
            change = f"{old.invariants[name]} -> {text}" if name in old.invariants else f"added: {text}"
            why = "An entity that breaks it already accepts only changes that mend it."
            yield Difference(f"invariants.{name}", change, True, why)


def other_code(old: Definition, new: Definition) -> Iterator[Difference]:
    """Yield the functions that both name, with other code: incompatible where it is that of a version."""
    for reference, was, comes in changed_code(old.sources, new.sources):
        found, change = function_name(reference), f"other code: {was[:8]} -> {comes[:8]}"
        if found is None or found.version is None:
            why = "A rule, but no image can run both: code that is a version of its own, such as `…@2`, is beside it."
            yield Difference(reference, change, True, why)
        else:
            why = f"Nothing can verify again what its code decided. {keep_both(reference)}"
            yield Difference(reference, change, False, why)
