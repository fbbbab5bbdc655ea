"""What `ops/soak` makes of a run: the order of faults, how long facts waited, what grows, what is judged to hold."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from bench.soak.faults import MORTAL, kinds
from bench.soak.load import ORDERS, Load, wider
from bench.soak.report import as_json, print_report, verdicts
from bench.soak.run import Event, Seen
from bench.soak.schedule import Kind, in_turn
from bench.soak.site import GATES, Life, transactions_of
from bench.soak.slopes import LONG_ENOUGH_S, WARM_UP_S, Sample, sample_of, slopes_of
from bench.soak.waits import Gap, Wait, Waits
from placet.definitions import load_definition, parse_definition
from placet.schemas.definition.diff import differences, is_compatible
from placet.schemas.messages import Kind as MessageKind
from tests.integration.gates import DEFINITION, Gate
from tests.integration.outage import PARTITIONS

CALM_S, AWAY_S = 60.0, 60.0
ALL = kinds(AWAY_S)


def given(minutes: float, seed: int, *, slower: float = 1.0, only: tuple[Kind, ...] = ALL) -> list[Kind]:
    """Let time pass as the kinds take it."""
    found: list[Kind] = []

    def remaining_s() -> float:
        return minutes * 60 - slower * sum(kind.takes_s + CALM_S for kind in found)

    for kind in in_turn(only, seed, CALM_S, remaining_s):
        found.append(kind)
        assert slower > 1 or remaining_s() >= 0
    return found


# -- the order of faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_an_hour_has_every_kind_though_each_takes_half_as_long_again(seed: int) -> None:
    assert Counter(kind.name for kind in given(60, seed, slower=1.5)).keys() == {kind.name for kind in ALL}


def test_what_ends_every_gate_comes_first_and_once_where_there_is_time_for_a_round() -> None:
    for seed in range(20):
        ends = [kind.ends_every_gate for kind in given(240, seed)]
        assert len(ends) > 4 * len(ALL) // 2
        assert ends.index(False) == ends.count(True) == 2


def test_an_order_is_that_of_its_seed() -> None:
    names = [tuple(kind.name for kind in given(60, seed)) for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]


def test_a_short_run_has_what_fits_and_another_seed_something_else() -> None:
    found = [given(4, seed) for seed in range(20)]
    assert all(1 <= len(each) <= 3 for each in found)
    assert len({kind.name for each in found for kind in each}) > len(ALL) // 2
    assert given(1, 1) == []


def test_what_is_chosen_comes_again_but_for_what_ends_every_gate() -> None:
    [rolls] = [kind for kind in ALL if kind.name == "gates restarted in turn"]
    [killed] = [kind for kind in ALL if kind.name == "gate killed"]
    assert given(30, 1, only=(rolls,)) == [rolls]
    assert len(given(30, 1, only=(killed,))) > 5


def test_one_gate_is_never_killed() -> None:
    assert set(GATES) - set(MORTAL) == {"a"}


# -- how long facts waited --------------------------------------------------------------------------------------------


def test_the_longest_wait_is_that_of_the_facts_of_a_time() -> None:
    waits = Waits("facts", ["facts", "proposals"])
    waits.decided("facts", 0, 0, 1_050, "ACCEPTED")  # told before the fact
    for offset, at_ms in enumerate((1_000, 2_000, 3_000)):
        waits.came("facts", 0, offset, at_ms)
    waits.came("proposals", 0, 0, 2_000)  # waits for ever, and is no fact
    waits.decided("facts", 0, 2, 3_500, "REFUSED")
    waits.decided("facts", 0, 1, 4_500, "ACCEPTED")
    waits.copied(0, 1_020)
    waits.copied(0, 2_600)
    assert waits.longest(1_000, 1_500, 9_000) == Gap(Wait(0.05, 0, 1_000), Wait(0.02, 0, 1_000))
    assert waits.longest(2_000, 3_000, 9_000) == Gap(Wait(2.5, 0, 2_000), Wait(0.6, 0, 2_000))
    assert waits.longest(3_000, 4_000, 9_000).gates.seconds == 0.5
    assert waits.longest(3_000, 4_000, 9_000).copier.seconds == 6.0, "what has no copy waits still"
    assert waits.longest(4_000, 5_000, 9_000) == Gap(Wait(0), Wait(0))
    assert (waits.inputs, waits.facts, waits.decisions, waits.copies) == (4, 3, 3, 2)
    assert waits.outcomes == {"ACCEPTED": 2, "REFUSED": 1}


def test_what_is_not_decided_or_decided_twice_is_named() -> None:
    waits = Waits("facts", ["facts"])
    for offset in range(3):
        waits.came("facts", 1, offset, 1_000)
    waits.came("facts", 1, 0, 1_000)  # read again
    for offset in (0, 2, 2, 7):
        waits.decided("facts", 1, offset, 1_001, "ACCEPTED")
    assert waits.undecided() == [("facts", 1, 1)]
    assert waits.doubled == [("facts", 1, 2)]
    assert waits.unasked() == 1
    with pytest.raises(ValueError, match="offset 9 follows 2"):
        waits.came("facts", 1, 9, 1_000)


# -- what grows -------------------------------------------------------------------------------------------------------


def life_of(seconds: float, rss_per_h: float = 0.0, *, warm_up_mib: float = 200.0) -> list[Sample]:
    """A process that takes much at its start, and then so much more an hour, up and down."""
    samples = []
    for number in range(int(seconds / 5)):
        at_s = number * 5.0
        start = min(at_s / WARM_UP_S, 1.0) * warm_up_mib
        samples.append(Sample(1_000 + at_s, 50 + start + rss_per_h * at_s / 3600 + number % 2, 60 + number % 2, 20))
    return samples


def test_growth_is_told_of_what_lived_long_enough_and_without_its_warm_up() -> None:
    assert slopes_of([]) is None
    assert slopes_of(life_of(WARM_UP_S + LONG_ENOUGH_S - 10)) is None
    steady, growing = slopes_of(life_of(3_600)), slopes_of(life_of(3_600, 30))
    assert steady is not None
    assert growing is not None
    assert [abs(value) < 0.1 for value in steady] == [True] * 3
    assert growing.rss_mib == pytest.approx(30, abs=0.1)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what a process takes is asked of /proc")
def test_a_process_is_seen_with_its_memory_files_and_threads() -> None:
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL) as process:
        seen = sample_of(process.pid, 7.0)
        process.kill()
    assert seen is not None
    assert seen.at_s == 7.0
    assert 0 < seen.rss_mib < 50
    assert seen.threads == 1
    assert sample_of(process.pid, 8.0) is None


# -- load and rules ---------------------------------------------------------------------------------------------------


def test_each_moment_has_a_fact_for_each_partition_and_every_fifth_a_proposal() -> None:
    load = Load(1)
    found = [message for number in range(100) for _, message in load.messages(number, 1)]
    assert Counter(message.kind for message in found) == {
        MessageKind.SIGNAL: 100 * PARTITIONS, MessageKind.PROPOSAL: 20 * PARTITIONS
    }  # fmt: skip
    assert len({message.entity_id for message in found}) == ORDERS * PARTITIONS
    assert "owned" not in {message.name for message in found}
    load.widened = True
    assert "owned" in {message.name for number in range(100, 200) for _, message in load.messages(number, 1)}


def test_the_wider_rules_follow_the_ones_before() -> None:
    first, second = load_definition(DEFINITION), parse_definition(wider(2), "wider")
    found = differences(first, second)
    assert is_compatible(found)
    assert {"fields.owner", "signals.owned"} <= {difference.path for difference in found}


def test_the_coordinator_of_transactions_is_found_by_the_hash_of_java() -> None:
    assert transactions_of("hello", 1 << 30) == 99_162_322
    assert transactions_of("The quick brown fox jumps over the lazy dog", 1 << 30) == 609_428_141, "without its sign"
    assert transactions_of("polygenelubricants", 50) == 0, "the one number without an opposite"


# -- verdicts ---------------------------------------------------------------------------------------------------------


def life(folder: Path, name: str, expected: int | None = 0, found: int | None = 0, said: str = "") -> Life:
    log = folder / f"{name}.log"
    log.write_text(said)
    return Life(name[0], Gate(cast("Any", None), log), 1_000.0, expected, found, amid="the end")


def seen_with(*lives: Life, trouble: list[str] | None = None, verify: tuple[int, Any] | None = None) -> Seen:
    waits = Waits("facts", ["facts"])
    waits.came("facts", 0, 0, 1_000)
    waits.decided("facts", 0, 0, 2_500, "ACCEPTED")
    waits.copied(0, 1_100)
    event = Event("gate killed", 1.0, 2.0, 3.0, ["gate b is killed"], copier_anew=True)
    clean = (0, {"differences": 0, "first": None, "tasks": [{"inputs": 1}]})
    return Seen([event], ["controller away"], waits, list(lives), trouble or [], verify or clean, False)


def failing(seen: Seen) -> list[str]:
    return [f"{verdict.what}: {verdict.seen}" for verdict in verdicts(seen) if verdict.holds is False]


def test_a_run_without_trouble_holds_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steady = life(tmp_path, "a")
    steady.samples = life_of(3_600, 10)
    seen = seen_with(steady, life(tmp_path, "b", -9, -9, "Traceback of one that was killed"))
    assert failing(seen) == []
    found = as_json(seen, {"seed": 7})
    assert (found["seed"], found["holds"], found["left_out"]) == (7, True, ["controller away"])
    assert [(fault["kind"], fault["gates_s"], fault["copier_s"]) for fault in found["faults"]] == [
        ("gate killed", 1.5, 0.1)
    ]
    assert found["faults"][0]["longest"]["gates"] == {"partition": 0, "came_s": 0.0}
    assert found["gates"][0]["per_hour"]["rss_mib"] == pytest.approx(10, abs=0.2)
    assert found["gates"][0]["rss_mib_each_minute"][::30] == [50, 255]
    assert json.loads(json.dumps(found)) == found
    print_report(Console(width=200), seen, "Under trouble")
    said = capsys.readouterr().out
    assert "gate killed" in said
    assert "0.1 s *" in said
    assert "Left out, for want of time: controller away." in said


def test_a_short_run_says_nothing_of_growth(tmp_path: Path) -> None:
    young = life(tmp_path, "a")
    young.samples = life_of(240)
    assert [verdict.seen for verdict in verdicts(seen_with(young)) if verdict.holds is None] == [
        "no gate lived for 25 minutes"
    ] * 3


def test_each_thing_that_should_not_be_is_named(tmp_path: Path) -> None:
    growing = life(tmp_path, "a")
    growing.samples = life_of(3_600, 120)
    assert [text.partition(":")[0] for text in failing(seen_with(growing))] == [
        "memory of a gate grow by at most 96 MiB an hour"
    ]
    assert failing(seen_with(life(tmp_path, "c-2", None, 70))) == [
        "each gate ended as it should: c-2.log ended with 70 amid: the end"
    ]
    assert failing(seen_with(life(tmp_path, "b", 0, 5))) == ["each gate ended as it should: b.log: 5 instead of 0"]
    stopped = json.dumps({"event": "task stopped", "task": "order-1", "why": "the ledger is gone"})
    assert failing(seen_with(life(tmp_path, "b", said=stopped))) == [
        "no task was stopped: order-1 (b.log): the ledger is gone"
    ]
    traced = json.dumps({"event": "Traceback (most recent call last)"})
    assert failing(seen_with(life(tmp_path, "b", said=traced))) == ["no log of a gate has a traceback: b.log"]
    assert failing(seen_with(trouble=["gate killed: not within 120 s: all tasks run"])) == [
        "every fault came and went: gate killed: not within 120 s: all tasks run"
    ]
    found = {"differences": 2, "first": {"text": "other bytes"}, "tasks": [{"inputs": 9}]}
    assert failing(seen_with(verify=(1, found))) == [
        "placet verify is clean: 2 differences in 9 inputs; the first: {'text': 'other bytes'}"
    ]
    assert failing(seen_with(verify=(4, "No broker answered"))) == [
        "placet verify is clean: exit code 4: No broker answered"
    ]


def test_inputs_without_one_decision_are_named() -> None:
    seen = seen_with()
    seen.waits.came("facts", 0, 1, 1_000)
    seen.waits.decided("facts", 0, 0, 2_600, "ACCEPTED")
    [said] = failing(seen)
    assert said.endswith("1 without a decision, such as facts-0@1; 1 with more than one, such as facts-0@0")
