"""The world without a gate: each rule, by hand-made histories of one flight."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

module = import_module("demo.without_a_gate")
Input, Read, Table, Watch = module.Input, module.Read, module.Table, module.Watch
TABLE = Table.of(yaml.safe_load((Path(__file__).parents[2] / "demo" / "flight.yaml").read_text()))
FLIGHT = "2013-02-08.UA1.EWR"


class History:
    """Builds inputs one after the other, a second apart; what an AI reads is what stands there by then."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.fact("flight_scheduled", carrier="UA", origin="EWR", dest="IAH")

    @property
    def now_ms(self) -> int:
        return 1_000 * (len(self.inputs) + 1)

    def fact(self, name: str, **payload: Any) -> None:
        n = len(self.inputs)
        self.inputs.append(Input(n, self.now_ms, FLIGHT, True, name, f"f-{n}", "airline", payload))

    def read(self) -> Any:
        """Read the row of the world without a gate, whole rows written, as it stands now."""
        row = module.last_writer_wins(self.inputs, TABLE, whole_row=True).rows[FLIGHT]
        return Read(row, len(self.inputs), self.now_ms - 1)

    def proposal(self, name: str, read: Any, cause: str = "f-0", who: str = "desk", **payload: Any) -> None:
        n = len(self.inputs)
        again = any((each.who, each.name, each.cause) == (who, name, cause) for each in self.inputs if not each.fact)
        self.inputs.append(
            Input(n, self.now_ms, FLIGHT, False, name, f"p-{n}", who, payload, cause, read, sent_again=again)
        )

    def broken(self, *, whole_row: bool) -> Counter[str]:
        applied = module.last_writer_wins(self.inputs, TABLE, whole_row=whole_row)
        return Counter(breach.rule for breach in applied.breaches)


@pytest.fixture
def history() -> History:
    return History()


def test_the_definition_is_read_as_data() -> None:
    assert ("scheduled", "departed") in TABLE.arrows
    assert ("scheduled", "holding") in TABLE.arrows
    assert ("arrived", "holding") not in TABLE.arrows
    assert TABLE.final == {"arrived", "diverted", "cancelled"}
    assert TABLE.occasions == {"hold_connection": ("connecting_from",), "rebook": None, "notify_late": ()}
    assert TABLE.blank["status"] == "absent"
    assert TABLE.blank["hold_minutes"] == 0


def test_what_fits_breaks_nothing(history: History) -> None:
    history.fact("delay_estimated", minutes=70)
    history.proposal("notify_late", history.read(), minutes=70)
    history.proposal("rebook", history.read(), passengers=4, to_flight="2013-02-08.UA2.EWR")
    history.proposal("hold_connection", history.read(), minutes=10, connecting_from="2013-02-08.UA3.EWR")
    history.fact("flight_departed", dep_delay=70)
    history.fact("flight_arrived", arr_delay=60)
    for whole_row in (True, False):
        assert not history.broken(whole_row=whole_row)


def test_a_row_written_back_takes_the_departure_with_it(history: History) -> None:
    read = history.read()
    history.fact("flight_departed", dep_delay=20)
    history.proposal("notify_late", read, minutes=20)
    assert history.broken(whole_row=True) == {"fact_overwritten": 1, "illegal_status": 1}
    assert not history.broken(whole_row=False), "a write of `notified` alone harms nothing"


def test_a_landed_flight_is_held(history: History) -> None:
    read = history.read()
    history.fact("flight_departed", dep_delay=0)
    history.fact("flight_arrived", arr_delay=-3)
    history.proposal("hold_connection", read, minutes=10, connecting_from="2013-02-08.UA3.EWR")
    broken = {"fact_overwritten": 1, "illegal_status": 1, "final_left": 1}
    assert history.broken(whole_row=True) == broken
    assert history.broken(whole_row=False) == broken


def test_the_breach_tells_the_fact_and_what_became_of_it(history: History) -> None:
    read = history.read()
    history.fact("flight_cancelled")
    history.proposal("notify_late", read, minutes=20)
    breaches = module.last_writer_wins(history.inputs, TABLE, whole_row=True).breaches
    overwritten = next(breach for breach in breaches if breach.rule == "fact_overwritten")
    assert overwritten.earlier.name == "flight_cancelled"
    assert overwritten.changed["status"] == ("cancelled", "scheduled")


def test_two_minds_act_on_one_occasion(history: History) -> None:
    history.fact("flight_cancelled")
    read = history.read()
    for who in ("desk", "learner"):
        history.proposal("rebook", read, cause="f-1", who=who, passengers=4, to_flight="2013-02-08.UA2.EWR")
    assert history.broken(whole_row=False) == {"occasion_again": 1}


def test_two_causes_are_two_occasions(history: History) -> None:
    read = history.read()
    history.proposal("rebook", read, cause="f-0", passengers=4, to_flight="2013-02-08.UA2.EWR")
    history.proposal("rebook", read, cause="f-9", who="learner", passengers=4, to_flight="2013-02-08.UA2.EWR")
    assert not history.broken(whole_row=False)


def test_passengers_are_told_twice_whatever_the_words(history: History) -> None:
    read = history.read()
    history.proposal("notify_late", read, who="desk", minutes=20)
    history.proposal("notify_late", read, who="learner", cause="f-7", minutes=35)
    assert history.broken(whole_row=True) == {"notified_twice": 1}


def test_the_same_thought_sent_again_does_not_count(history: History) -> None:
    read = history.read()
    history.proposal("notify_late", read, minutes=20)
    history.proposal("notify_late", read, minutes=20)
    applied = module.last_writer_wins(history.inputs, TABLE, whole_row=True)
    assert not applied.breaches
    assert (applied.counted, applied.sent_again, applied.read_otherwise) == (1, 1, 0)


def test_who_would_have_read_something_else_does_not_count(history: History) -> None:
    """As when a gate was down: the AI read an old row, while without a gate the departure would have stood there."""
    old = history.read()
    history.fact("flight_departed", dep_delay=20)
    late = Read(old.row, old.version, history.now_ms - 1)
    history.proposal("notify_late", late, minutes=20)
    applied = module.last_writer_wins(history.inputs, TABLE, whole_row=True)
    assert not applied.breaches
    assert (applied.counted, applied.read_otherwise) == (0, 1)


def test_facts_break_nothing_whatever_they_find(history: History) -> None:
    read = history.read()
    history.fact("flight_departed", dep_delay=20)
    history.proposal("notify_late", read, minutes=20)
    before = history.broken(whole_row=True)
    history.fact("flight_arrived", arr_delay=10)  # from `scheduled`, as the row says
    assert history.broken(whole_row=True) == before


def test_the_watch_counts_what_a_gate_lets_through_by_the_same_rules(history: History) -> None:
    watch = Watch(TABLE)
    landed = {**TABLE.blank, "status": "arrived"}
    read = Read({**TABLE.blank, "status": "scheduled"}, 1, 500)
    bad = Input(
        1, 2_000, FLIGHT, False, "hold_connection", "p", "desk", {"connecting_from": "x", "minutes": 5}, "c", read
    )
    assert {breach.rule for breach in watch.see(bad, landed, {**landed, "status": "holding"})} == {
        "illegal_status", "final_left",
    }  # fmt: skip
