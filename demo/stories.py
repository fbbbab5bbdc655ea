"""What happened to one flight, as a short story of three or four lines with times. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from html import escape
from typing import Any, NamedTuple

SHOWN = 4
"""So many changed columns are told."""
FIRST = ("status", "arr_delay", "dep_delay", "expected_delay", "notified", "rebooked", "hold_minutes")
FACTS = {
    "flight_scheduled": "was announced", "delay_estimated": "is expected to be {minutes} minutes late",
    "flight_departed": "departed ({dep_delay:+} minutes)", "flight_arrived": "arrived ({arr_delay:+} minutes)",
    "flight_diverted": "was diverted", "flight_cancelled": "was cancelled",
}  # fmt: skip
DEEDS = {
    "hold_connection": "let it wait {minutes} minutes for {connecting_from}",
    "rebook": "move {passengers} passengers to {to_flight}",
    "notify_late": "tell its passengers that it is {minutes} minutes late",
}


class Moment(NamedTuple):
    """One line of a story: when, what kind (read, fact, deed, hit), and the sentence as HTML."""

    at_s: float
    kind: str
    sentence: str


def story(rule: Mapping[str, Any], example: Mapping[str, Any]) -> str:
    """Return a rule's example as a card."""
    lines = "".join(
        f'<li class="{moment.kind}"><time>{moment.at_s:.1f} s</time>{moment.sentence}</li>'
        for moment in moments(example)
    )
    return (
        f'<article class="story"><h3>{escape(rule["title"])}</h3>'
        f'<span class="soft">{escape(flight_words(example["entity"]))}, {rule["without"]:,} such cases</span>'
        f"<ol>{lines}</ol>{_answer(example)}</article>"
    )


def moments(example: Mapping[str, Any]) -> list[Moment]:
    """Return what happened, in its order."""
    who, read, earlier = escape(example["who"]), example["read"], example["earlier"]
    found = []
    if read and read["version"]:
        was = f"<b>{read['status']}</b>, version {read['version']}"
        found.append(Moment(read["at_s"], "read", f"<b>{who}</b> reads the flight ({was}) and begins to think."))
    if earlier:
        found.append(Moment(earlier["at_s"], "fact" if earlier["fact"] else "deed", _earlier(earlier)))
    found.sort(key=lambda moment: moment.at_s)
    wish = _filled(DEEDS, example["name"], example["payload"])
    found.append(Moment(example["at_s"], "hit", f"<b>{who}</b> writes: {wish}. {_changes(example['changed'])}"))
    return found


def flight_words(entity: str) -> str:
    """Return a flight's id in words: `2013-02-08.UA1545.EWR` is "UA1545 from EWR, 8 February"."""
    day, number, origin = entity.split(".")
    when = date.fromisoformat(day)
    return f"{number} from {origin}, {when.day} {when:%B}"


def _earlier(earlier: Mapping[str, Any]) -> str:
    if earlier["fact"]:
        return f"A fact: the flight {_filled(FACTS, earlier['name'], earlier['payload'])}."
    deed = _filled(DEEDS, earlier["name"], earlier["payload"])
    return f"<b>{escape(earlier['who'])}</b> has written: {deed}."


def _filled(words: Mapping[str, str], name: str, payload: Mapping[str, Any]) -> str:
    short = {field: value.split(".")[1] if str(value).count(".") == 2 else value for field, value in payload.items()}
    return escape(words[name].format(**short))


def _changes(changed: Mapping[str, Any]) -> str:
    """Return what the write changed in the row, the telling columns first."""
    order = {name: place for place, name in enumerate(FIRST)}
    names = sorted(changed, key=lambda name: order.get(name, len(order)))
    told = "; ".join(f"{name}: <s>{_shown(changed[name][0])}</s> → <b>{_shown(changed[name][1])}</b>"
                     for name in names[:SHOWN])  # fmt: skip
    return f'<br><span class="change">{told}</span>' if told else "It is done once more."


def _shown(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(str(value))


def _answer(example: Mapping[str, Any]) -> str:
    said = example["gate_said"]
    if said == "ACCEPTED":
        return '<p class="said">The gate: <b>ACCEPTED</b>, as it had refused the one before.</p>'
    outcome = "DUPLICATE" if said == "REPEATED" else "REFUSED"
    return f'<p class="said">The gate: <b>{outcome}</b>, {escape(said)}. Nothing was written.</p>'
