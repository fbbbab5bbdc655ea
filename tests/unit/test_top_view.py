"""What `placet top` looks like: every number is there, at 80 columns, on a small terminal, without colours."""

from __future__ import annotations

import re
from html import unescape

import pytest

from placet.cli.top.frame import Frame
from placet.cli.top.watch import Watch
from placet.schemas.decision import Outcome, Reason
from placet.schemas.messages import Kind
from tests.unit.top_sample import PICTURE, USUAL, TestGate, drawn, look, picture, sample


def lines(frame: Frame, width: int = 80, height: int | None = None) -> list[str]:
    return [line.rstrip() for line in drawn(frame, width, height).export_text().splitlines()]


def test_eighty_columns_hold_every_number() -> None:
    shown = lines(sample())
    assert max(map(len, shown)) <= 80
    assert "…" not in "\n".join(shown)
    text = [" ".join(line.split()) for line in shown]
    assert text[0] == "placet prod 2 of 3 gates answer flight v1 last 2 s, 12:00:42 UTC"
    assert "decisions/s last 21 looks accepted lag p50 p99 refused facts" in text
    assert "● gate-2 has not answered for 18 s: connection refused" in text
    assert "gate-1 2 h 1,164 559 494 ms 99 ms 80% 412M 2 ↻1" in text
    assert "gate-2 silent 18 s" in text
    assert "REFUSED ILLEGAL_TRANSITION 1.0 83 3.7% ╸ 3,120" in text
    assert "flight-0 gate-0 658 ━━━━━━━━━━ 151" in text
    assert "flight-4 gate-1 ━━━━━━━━╸━ ↻ 84%, 80,000 left, 1.5 s" in text
    assert "flight-5 – ✕ nobody has it" in text


def test_timers_have_a_column_where_any_fired() -> None:
    one = TestGate("a").runs(0, of=1)
    one.decides(0, {**USUAL, (Kind.TIMER, Outcome.ACCEPTED, Reason.NONE): 2_000})
    watch = Watch()
    look(watch, 0.0, {"a": one})
    one.decides(0, {**USUAL, (Kind.TIMER, Outcome.ACCEPTED, Reason.NONE): 20})
    shown = lines(look(watch, 2.0, {"a": one}))
    assert max(map(len, shown)) <= 80
    text = [" ".join(line.split()) for line in shown]
    assert "outcome reason facts/s prop./s timers/s share since start" in text
    assert "ACCEPTED 406 56 10 92% 3,870" in text


@pytest.mark.parametrize("height", [24, 30, 50])
def test_a_small_terminal_shows_what_is_in_trouble_first(height: int) -> None:
    shown = lines(sample(), height=height)
    assert len(shown) <= height
    text = "\n".join(shown)
    assert "flight-5" in text
    assert "gate-2" in text
    assert ("flight-1" in text) == (height == 50), "it has the least lag"


def test_hundreds_of_partitions_fit_by_leaving_out_the_calm_ones() -> None:
    one = TestGate("a").runs(*range(299), of=300)
    one.lags(signals_7=5, signals_250=9_000)
    shown = lines(look(Watch(), 0.0, {"a": one}), height=30)
    assert len(shown) <= 30
    text = "\n".join(shown)
    assert all(name in text for name in ("flight-299", "flight-250", "flight-7 "))
    assert re.search(r"… 2\d\d more", text)


def test_before_the_second_look_unknown_numbers_are_dashes() -> None:
    shown = [" ".join(line.split()) for line in lines(look(Watch(), 0.0, {"a": TestGate("a").runs(0, of=1)}))]
    assert shown[0].startswith("placet prod 1 gate ")
    assert "a 2 h – – – – – 412M 1" in shown


def test_a_gate_without_tasks_stands_by() -> None:
    assert any("stands by" in line for line in lines(look(Watch(), 0.0, {"a": TestGate("a")})))


def test_of_a_long_name_the_end_is_shown_which_tells_pods_apart() -> None:
    frame = look(Watch(), 0.0, {"x": TestGate("placet-gate-7d9f8b6c5-x2x4z").runs(0, of=1)})
    assert sum("…7d9f8b6c5-x2x4z"[-15:] in line for line in lines(frame)) == 2, "beside its numbers and its partition"
    assert max(map(len, lines(frame))) <= 80


def test_names_cannot_be_markup() -> None:
    frame = look(Watch(), 0.0, {"x": TestGate("a-b").runs(0), "http://[::1]:9/metrics": "[red]odd[/nothing]"})
    assert any("[red]odd[/nothing]" in line for line in lines(frame))


def test_the_picture_in_the_docs_is_of_this_view() -> None:
    def texts(svg: str) -> list[str]:
        return [unescape(text).replace("\xa0", " ") for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]

    assert texts(PICTURE.read_text()) == texts(picture()), "draw it again: python -m tests.unit.top_sample"
