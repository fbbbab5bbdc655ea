"""The report of a run: one JSON object with everything that terminal and page show. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from demo.history import History
from demo.tally import Tally
from demo.without_a_gate import RULES, Breach, Input, Table, Watch, last_writer_wins

ADVISORS = {
    "desk": "goes by three rules",
    "learner": "learns online (river) how late flights arrive",
}


LEARNED_MIN = 50
"""Before so many arrivals an error says nothing."""


class Found(NamedTuple):
    """A breach, and what the gate had said to the same input in the run."""

    breach: Breach
    answer: str


TOLD = {"fact_overwritten": "arrived", "illegal_status": "departed", "final_left": "cancelled"}
"""The status of the flight whose story is told, by rule: so that the stories differ."""


class World:
    """What breaks rules in one world, partition by partition."""

    def __init__(self) -> None:
        self.found: list[Found] = []

    def add(self, breaches: Iterable[Breach], answers: Mapping[int, str]) -> None:
        """Take in one partition's breaches."""
        self.found += [Found(breach, answers.get(breach.input.position, "")) for breach in breaches]

    def writes(self) -> list[Input]:
        """Return the writes that broke a rule, each once, however many it broke."""
        return list({(each.breach.input.entity, each.breach.input.position): each.breach.input for each in self.found}
                    .values())  # fmt: skip

    def by_rule(self) -> Counter[str]:
        """Return how often each rule was broken."""
        return Counter(each.breach.rule for each in self.found)


class Comparison:
    """The same inputs in three worlds: whole rows written without a gate, columns written without one, the gate.

    Args:
        table: the definition, as data.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.rows, self.columns, self.gate = World(), World(), World()
        self.facts = self.proposals = self.counted = self.sent_again = self.read_otherwise = 0
        self.by_proposer: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add(self, history: History) -> None:
        """Take in one partition."""
        columns = last_writer_wins(history.inputs, self._table, whole_row=False)
        self.columns.add(columns.breaches, history.answers)
        rows = last_writer_wins(history.inputs, self._table, whole_row=True)
        self.rows.add(rows.breaches, history.answers)
        self.counted += rows.counted
        self.sent_again += rows.sent_again
        self.read_otherwise += rows.read_otherwise
        watch = Watch(self._table)
        for write in history.accepted:
            self.gate.add(watch.see(*write), history.answers)
        for each in history.inputs:
            self.facts += each.fact
            self.proposals += not each.fact
            if not each.fact:
                self.by_proposer[each.who][history.answers.get(each.position, "")] += 1


def report(
    tally: Tally,
    compared: Comparison,
    run: Mapping[str, Any],
    diaries: Mapping[str, Sequence[Mapping[str, Any]]],
    verify: Any,
) -> dict[str, Any]:
    """Return the report.

    Args:
        tally: what was seen while it ran.
        compared: the worlds.
        run: what was asked for and when: `flights`, `first_day`, `last_day`, `seconds`, `day_s`, `seed`, `started`.
        diaries: of the advisors, by name.
        verify: what `placet verify --output json` printed.
    """
    worlds = {"without": compared.rows, "without_columns": compared.columns, "with": compared.gate}
    told: set[str] = set()
    return {
        "run": dict(run),
        "headline": {name: len(world.writes()) for name, world in worlds.items()},
        "inputs": {
            "facts": compared.facts, "proposals": compared.proposals, "counted": compared.counted,
            "sent_again": compared.sent_again, "read_otherwise": compared.read_otherwise,
        },
        "rules": [
            {
                **rule._asdict(), **{name: world.by_rule()[rule.key] for name, world in worlds.items()},
                "example": _example(rule.key, compared.rows.found, tally.began_ms, told),
            }
            for rule in RULES
        ],
        "damage_by_second": _by_second(compared.rows.writes(), tally.began_ms),
        "damage_columns_by_second": _by_second(compared.columns.writes(), tally.began_ms),
        "decided": tally.decided + tally.timers,
        "outcomes": tally.outcomes(),
        "by_second": tally.by_second(),
        "latency_ms": tally.latency(),
        "takeover": _takeover(tally),
        "fallback": _fallback(tally),
        "advisors": [
            {"name": name, "what": what, "proposed": compared.by_proposer[name].total(),
             "answers": dict(compared.by_proposer[name].most_common()),
             "harness": {what: count for what, count in (diaries[name] or [{}])[-1].get("counts", {}).items() if count}}
            for name, what in ADVISORS.items()
        ],
        "learner": _thinned([
            {"second": (entry["at_ms"] - tally.began_ms) / 1_000, "learned": entry["learned"],
             "error_min": round(entry["error_min"], 2), "naive_min": round(entry["naive_min"], 2)}
            for entry in diaries["learner"] if entry.get("learned", 0) >= LEARNED_MIN
        ]),
        "verify": verify,
    }  # fmt: skip


def _takeover(tally: Tally) -> dict[str, Any] | None:
    if tally.kill is None:
        return None
    took = tally.takeover_ms()
    return {
        "gate": tally.kill.gate, "second": (tally.kill.at_ms - tally.began_ms) / 1_000,
        "partitions": [{"partition": n, "took_s": took[n] / 1_000} for n in sorted(took)],
        "took_s": max(took.values(), default=0) / 1_000,
        "restarted_second": (tally.restarted_ms - tally.began_ms) / 1_000 if tally.restarted_ms else None,
    }  # fmt: skip


def _fallback(tally: Tally) -> dict[str, Any]:
    """What a rule did that no advisor had done in time: in all, and while both of them stood still."""
    meanwhile = [at_ms for at_ms in tally.told_ms if tally.stopped_ms <= at_ms < tally.went_on_ms]
    return {
        "timers": tally.timers, "told": len(tally.told_ms), "told_meanwhile": len(meanwhile),
        "second": (tally.stopped_ms - tally.began_ms) / 1_000 if tally.stopped_ms else None,
        "seconds": (tally.went_on_ms - tally.stopped_ms) / 1_000,
    }  # fmt: skip


def _by_second(writes: list[Input], began_ms: int) -> list[list[int]]:
    counted = Counter(max(0, write.at_ms - began_ms) // 1_000 for write in writes)
    return [[second, counted[second]] for second in sorted(counted)]


def _thinned(entries: list[Any], most: int = 200) -> list[Any]:
    step = max(1, len(entries) // most)
    return entries[::step]


def _example(rule: str, found: list[Found], began_ms: int, told: set[str]) -> dict[str, Any] | None:
    """Tell the breach that says most: of another flight, one that the gate refused, that changed much."""
    of_rule = [each for each in found if each.breach.rule == rule]
    if not of_rule:
        return None
    breach, answer = max(of_rule, key=lambda each: (each.breach.input.entity not in told, *_telling(each)))
    told.add(breach.input.entity)
    written, earlier, read = breach.input, breach.earlier, breach.input.read
    return {
        "entity": written.entity, "who": written.who, "name": written.name, "payload": dict(written.payload),
        "at_s": _since(written.at_ms, began_ms),
        "read": {"version": read.version, "status": read.row["status"], "at_s": _since(read.at_ms, began_ms)}
        if read else None,
        "earlier": {
            "name": earlier.name, "who": earlier.who, "fact": earlier.fact, "at_s": _since(earlier.at_ms, began_ms),
            "payload": dict(earlier.payload),
        } if earlier else None,
        "changed": {name: list(values) for name, values in breach.changed.items()},
        "gate_said": answer,
    }  # fmt: skip


def _telling(found: Found) -> tuple[int, int, int, int]:
    breach, answer = found
    read = breach.input.read
    refused = answer not in ("ACCEPTED", "")
    status = breach.changed.get("status", ("", ""))[0] == TOLD.get(breach.rule, "")
    return refused, status, len(breach.changed), breach.input.at_ms - read.at_ms if read else 0


def _since(at_ms: int, began_ms: int) -> float:
    return round((at_ms - began_ms) / 1_000, 3)
