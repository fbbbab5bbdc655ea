"""Two minds that compete at the operations desk: one goes by rules, one learns online how late flights will arrive.

Pure but for what they remember: a fact and a read row in, ideas out. That they contradict each other, think too long or
are wrong is their right: the gate decides.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from river import compose, linear_model, optim, preprocessing

from demo.flights import HOUR_MS, LATE_MIN

Row = Mapping[str, Any]
OPEN = ("scheduled", "holding")
LONG_MIN = 60
"""From so many minutes on passengers are better off on another flight."""


class Idea(NamedTuple):
    """What a mind would like: a proposal about this flight, or another one."""

    entity: str
    name: str
    payload: dict[str, Any]
    why: str


class Timetable:
    """Flights by where they go, in order of departure."""

    def __init__(self) -> None:
        self._flights: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)

    def add(self, flight: str, row: Row) -> None:
        """Take in a flight, once."""
        flights, entry = self._flights[row["origin"], row["dest"]], (row["sched_dep"], flight)
        if entry not in flights:
            insort(flights, entry)

    def drop(self, flight: str, row: Row) -> None:
        """Take out a flight that is not open any more."""
        flights, entry = self._flights[row["origin"], row["dest"]], (row["sched_dep"], flight)
        if entry in flights:
            flights.remove(entry)

    def note(self, name: str, flight: str, row: Row) -> None:
        """Take in what a fact says about what passengers could take."""
        if name == "flight_scheduled":
            self.add(flight, row)
        elif row["status"] not in OPEN:
            self.drop(flight, row)

    def after(self, flight: str, row: Row, most: int) -> list[str]:
        """Return the next flights from the same airport to the same place, within a day."""
        flights = self._flights[row["origin"], row["dest"]]
        first = bisect_right(flights, (row["sched_dep"], flight))
        return [other for at, other in flights[first : first + most] if at - row["sched_dep"] <= 24 * HOUR_MS]


class Mind(Protocol):
    """What the advisor process asks of a mind."""

    def ideas(self, name: str, flight: str, row: Row) -> list[Idea]:
        """Return what it would propose, upon a fact, about a flight as it was read; the most urgent first."""


class Desk:
    """Goes by three rules: tell who will be late, move who would wait an hour, let the next flight wait for them."""

    def __init__(self) -> None:
        self._timetable = Timetable()

    def ideas(self, name: str, flight: str, row: Row) -> list[Idea]:
        self._timetable.note(name, flight, row)
        late = row["expected_delay"] if row["status"] in OPEN else row["dep_delay"] or 0
        found = []
        if row["status"] == "cancelled" or (row["status"] in OPEN and late >= LONG_MIN):
            found += moved(flight, row, self._timetable.after(flight, row, 1), 15)
        if row["status"] in (*OPEN, "departed") and late >= LATE_MIN and not row["notified"]:
            found.append(Idea(flight, "notify_late", {"minutes": late}, f"{late} minutes are known"))
        return found


class Learner:
    """Learns from each arrival how late flights arrive, and acts on what it predicts.

    Attributes:
        learned: from how many arrivals.
        error_min: mean absolute error of its predictions, each made before the arrival was learned from; the latest
            arrivals weigh most (the last few hundred).
        naive_min: the same of a guess: it arrives as late as it departed.
    """

    def __init__(self) -> None:
        self._timetable = Timetable()
        words = compose.SelectType(str) | preprocessing.OneHotEncoder()
        numbers = compose.SelectType(int, float) | preprocessing.StandardScaler()
        self._model = (words + numbers) | linear_model.LinearRegression(optimizer=optim.SGD(0.01))
        self.learned, self.error_min, self.naive_min = 0, 0.0, 0.0
        self._seen: set[str] = set()

    def ideas(self, name: str, flight: str, row: Row) -> list[Idea]:
        self._timetable.note(name, flight, row)
        if name == "flight_arrived":
            self._learn(flight, row)
            return []
        late = round(self.predict(row))
        found = []
        if row["status"] == "cancelled" or (row["status"] in OPEN and late >= LONG_MIN):
            others = self._timetable.after(flight, row, 3)
            found += moved(flight, row, others[-1:], 10 + 5 * (late > 2 * LONG_MIN))
        if row["status"] in (*OPEN, "departed") and late >= LATE_MIN and not row["notified"]:
            found.append(Idea(flight, "notify_late", {"minutes": late}, f"{late} minutes are predicted"))
        return found

    def predict(self, row: Row) -> float:
        """Return how many minutes late a flight will arrive."""
        return float(self._model.predict_one(_features(row)))

    def _learn(self, flight: str, row: Row) -> None:
        if row["arr_delay"] is None or flight in self._seen:
            return
        self._seen.add(flight)
        features, true = _features(row), row["arr_delay"]
        weight = max(1 / (self.learned + 1), 1 / 300)
        self.error_min += weight * (abs(float(self._model.predict_one(features)) - true) - self.error_min)
        self.naive_min += weight * (abs(row["dep_delay"] - true) - self.naive_min)
        self.learned += 1
        self._model.learn_one(features, true)


def moved(flight: str, row: Row, others: list[str], hold_min: int) -> list[Idea]:
    """Move passengers to another flight, where there is one, and let that one wait for them."""
    if not others or row["rebooked"]:
        return []
    passengers = 4 + row["flight"] % 20  # as the booking system would say; both minds ask it
    why = "cancelled" if row["status"] == "cancelled" else "more than an hour late"
    return [
        Idea(flight, "rebook", {"passengers": passengers, "to_flight": others[0]}, why),
        Idea(others[0], "hold_connection", {"minutes": hold_min, "connecting_from": flight}, f"{flight} is {why}"),
    ]


def _features(row: Row) -> dict[str, float | str]:
    """Return what is known of a flight: before it departs the airline's estimate, then the truth."""
    known = row["dep_delay"] if row["dep_delay"] is not None else row["expected_delay"]
    return {
        "known_delay": float(known), "hour": row["sched_dep"] // HOUR_MS % 24 / 1.0, "distance": row["distance"] / 1.0,
        "carrier": row["carrier"], "dest": row["dest"],
    }  # fmt: skip
