"""The independent judge: what DESIGN says in sections 4 to 6, as naively as can be. Dicts, loops, no code of Placet.

It knows no bytes, no digests and no batches. Rules are the definition as plain data with expressions as trees, such as
`("<", ("state", "n"), ("lit", 5))`; inputs, entities and verdicts are dicts. Whatever it says, the gate must say too.
"""

from __future__ import annotations

from typing import Any

ABSENT = "absent"
AHEAD_MAX_MS = 60_000  # how far a producer's clock may run ahead of the log
NOTHING_KNOWN = {"changed": False, "versions": (0, 0), "statuses": ("", ""), "incarnation": 0}
LIMITS = {"int": 2**31, "long": 2**63}


class Error:
    """An expression that has no value."""


ERROR = Error()


# Expressions ----------------------------------------------------------------------------------------------------------


def value_of(tree: tuple, scope: dict[str, Any]) -> Any:
    """Evaluate an expression's tree; ERROR where it has no value."""
    kind, *parts = tree
    if kind == "lit":
        return parts[0]
    if kind in ("state", "payload", "window"):
        return scope[kind][parts[0]]
    if kind == "name":
        return scope[parts[0]]
    if kind in ("later", "older"):  # event_time + duration, decided_at - event_time > duration
        late = kind == "older"
        return scope["decided_at"] - scope["event_time"] > parts[0] if late else scope["event_time"] + parts[0]
    values = [value_of(part, scope) for part in parts]
    if kind == "&&":
        return False if False in [v for v in values if v is not ERROR] else ERROR if ERROR in values else True
    if kind == "||":
        return True if True in [v for v in values if v is not ERROR] else ERROR if ERROR in values else False
    if ERROR in values:
        return ERROR
    if kind == "!":
        return not values[0]
    if kind == "null?":
        return values[0] is None
    if kind == "==":
        return values[0] == values[1]
    if kind in ("<", "<="):
        if None in values:
            return ERROR
        return values[0] < values[1] if kind == "<" else values[0] <= values[1]
    return _arithmetic(kind, values)


def _arithmetic(kind: str, values: list[Any]) -> Any:
    left, right = values
    if left is None or right is None:
        return ERROR
    if kind in ("/", "%"):
        if right == 0:
            return ERROR
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        result = quotient if kind == "/" else left - quotient * right
    else:
        result = left + right if kind == "+" else left - right
    return result if -(2**63) <= result < 2**63 else ERROR


def fits(value: Any, field: dict[str, Any]) -> bool:
    """Tell whether a value is one of a field."""
    if value is None:
        return field.get("optional", False)
    if field["type"] == "timestamp":
        return type(value) is int
    if field["type"] in LIMITS:
        return type(value) is int and -LIMITS[field["type"]] <= value < LIMITS[field["type"]]
    return type(value) is {"string": str, "boolean": bool}[field["type"]]


# The gate -------------------------------------------------------------------------------------------------------------


class NaiveGate:
    """One partition's gate.

    Args:
        rules: horizon_ms, statuses, final, fields, invariants, timers, windows, and inputs by name (see
            tests/property/strategies.py).
    """

    def __init__(self, rules: dict[str, Any]) -> None:
        self.rules = rules
        self.entities: dict[str, dict[str, Any]] = {}
        self.memory: dict[tuple, dict[str, Any]] = {}
        self.log_time = 0
        self.decided_at = 0
        self.gone: set[str] = set()

    def entity(self, entity_id: str) -> dict[str, Any]:
        """Return an entity, or what one that was never seen is like."""
        return self.entities.get(entity_id) or {
            "status": ABSENT,
            "version": 0,
            "incarnation": 0,
            "fields": self.initial_fields(),
            "changed_at": {},
            "reborn_at": 0,
            "applied": {},
            "deleted_at": 0,
            "timers": {},
            "history": [],
            "due": [],
        }

    def initial_fields(self) -> dict[str, Any]:
        """Return the fields of an absent entity."""
        return {name: field.get("default") for name, field in self.rules["fields"].items()}

    def begin(self, clock_ms: int) -> None:
        """Begin a transaction."""
        self.decided_at = max(self.decided_at, clock_ms)

    def take(self, given: dict[str, Any], timestamp: int) -> dict[str, Any]:
        """Judge one input and apply it if it is accepted; return the verdict."""
        self.log_time = max(self.log_time, timestamp)
        refused = self.first_rung(given)
        if refused:
            return {**_verdict("REFUSED", refused), **NOTHING_KNOWN}
        before = self.entity(given["entity"])
        verdict = self.judge(given, before)
        after = verdict.pop("after", before)
        if verdict["outcome"] == "ACCEPTED":
            self.remember(given, before, after)
        return {
            **verdict,
            "changed": after["version"] != before["version"],
            "versions": (before["version"], after["version"]),
            "statuses": (before["status"], after["status"]),
            "incarnation": after["incarnation"],
        }

    def overdue(self, entity_id: str, before: int) -> list[str]:
        """Return the timers of an entity that were due before a time, in the order in which they fire."""
        timers = self.entity(entity_id)["timers"]
        return sorted((name for name in timers if timers[name][0] < before), key=lambda name: (timers[name][0], name))

    def fire(self, entity_id: str, name: str, log_time: int) -> dict[str, Any]:
        """Let a timer fire; return the verdict."""
        before = self.entity(entity_id)
        due, _ = before["timers"][name]
        assert log_time >= due, "no timer fires before it is due"
        assert log_time >= self.log_time, "log time never steps back"
        self.log_time = log_time
        rule = {"transitions": [], **self.rules["timers"][name]}
        waiting = {**before, "timers": {other: timer for other, timer in before["timers"].items() if other != name}}
        given = {"name": name, "payload": {}, "entity": entity_id, "event_time": due, "proposer": ""}
        transitions = self.transitions(rule, before["status"])
        if not transitions:
            verdict = _verdict("REFUSED", "ILLEGAL_TRANSITION")
        else:
            verdict = self.evolved(rule, given, waiting, transitions)
        after = verdict.pop("after", waiting)
        if verdict["outcome"] == "ACCEPTED":
            after = self.counted(given, after)
        self.entities[entity_id] = after
        if after["status"] == ABSENT and after["version"] != before["version"]:
            self.gone.add(entity_id)
        return {
            **verdict,
            "changed": after["version"] != before["version"],
            "versions": (before["version"], after["version"]),
            "statuses": (before["status"], after["status"]),
            "incarnation": after["incarnation"],
        }

    def timers_after(self, before: dict[str, Any], after: dict[str, Any], changed: list[str]) -> dict[str, tuple]:
        """Return what is armed after a change: time and version by name."""
        entered = before["status"] != after["status"]
        timers = {} if entered else dict(before["timers"])
        for name, timer in self.rules.get("timers", {}).items():
            if not self.transitions(timer, after["status"]):
                continue
            if timer["after_ms"] is not None:
                if entered:
                    timers[name] = (self.log_time + timer["after_ms"], after["version"])
            elif entered or "until" in changed:
                timers.pop(name, None)
                if after["fields"]["until"] is not None:
                    timers[name] = (max(after["fields"]["until"], self.log_time + 1_000), after["version"])
        return timers

    def counted(self, given: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        """Return the entity with an accepted input in its history, if a window counts it."""
        if given["name"] not in [window["input"] for window in self.rules.get("windows", {}).values()]:
            return after
        entry = {"at": self.log_time, **{name: given[name] for name in ("name", "payload", "proposer")}}
        return {**after, "history": [*after["history"], entry]}

    def within(self, name: str, entity: dict[str, Any], proposer: str) -> list[tuple[int, int]]:
        """Return when, and how much, an entity's window counts as of now."""
        window = self.rules["windows"][name]
        return [
            (entry["at"], entry["payload"][window["field"]] if window["field"] else 1)
            for entry in entity["history"]
            if entry["name"] == window["input"]
            and self.log_time - entry["at"] < window["within_ms"]
            and (not window["by"] or entry["proposer"] == proposer)
        ]

    def scope(self, given: dict[str, Any], entity: dict[str, Any]) -> dict[str, Any]:
        """Return what expressions see."""
        windows = self.rules.get("windows", {})
        return {
            "state": entity["fields"],
            "status": entity["status"],
            "version": entity["version"],
            "payload": given["payload"],
            "window": {
                name: sum(amount for _, amount in self.within(name, entity, given["proposer"])) for name in windows
            },
            "entity_id": given["entity"],
            "event_time": given["event_time"],
            "decided_at": self.decided_at,
            "proposer": given["proposer"],
        }

    def remember(self, given: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> None:
        """Keep the state, and what tells a repeat from something new."""
        rule = self.rules["inputs"][given["name"]]
        seen = {
            "id": given["id"],
            "name": given["name"],
            "payload": given["payload"],
            "event_time": given["event_time"],
            "version": after["version"],
            "log_time": self.log_time,
        }
        known = before["applied"].get(given["name"])
        newest = known is None or known["event_time"] <= given["event_time"]
        if rule["dedup"] == "once" or (rule["kind"] == "SIGNAL" and newest):
            after = {**after, "applied": {**after["applied"], given["name"]: seen}}
        after = self.counted(given, after)
        occasion = self.occasion(rule, given)
        if occasion:
            self.memory[given["kind"], given["entity"], occasion] = seen
        if after != before:
            self.entities[given["entity"]] = after
            if after["status"] == ABSENT and (after["version"] != before["version"] or not after["deleted_at"]):
                self.gone.add(given["entity"])

    def end(self, clock_ms: int, *, idle: bool) -> None:
        """End a transaction: entities that were deleted a horizon ago are forgotten.

        The gate looks when all that the transaction remembers is due, so at the time of its last input.
        """
        if idle:
            self.log_time = max(self.log_time, clock_ms)
        for entity_id in self.gone:
            entity = self.entities[entity_id]
            self.entities[entity_id] = {**entity, "due": [*entity["due"], self.log_time]}
        self.gone = set()
        for entity_id, entity in list(self.entities.items()):
            due = [one for one in entity["due"] if not self.expired(one)]
            if len(due) == len(entity["due"]):
                continue  # nothing reminds of it now; what reminded of an earlier deletion does as well
            if entity["status"] == ABSENT and self.expired(_gone_at(entity)):
                if self.expired(_remembered_at(entity)):
                    del self.entities[entity_id]
                    continue
                due.append(_remembered_at(entity))
            self.entities[entity_id] = {**entity, "due": due}

    def restarted(self) -> None:
        """Restore: of each change the log tells its own time."""
        for entity_id, entity in self.entities.items():
            self.entities[entity_id] = {**entity, "due": [_gone_at(entity)]}

    def expired(self, remembered_at: int) -> bool:
        """Tell whether the horizon, and what clocks may run ahead, has passed by on log time."""
        return self.log_time - remembered_at > self.rules["horizon_ms"] + AHEAD_MAX_MS

    # Rung 1 -----------------------------------------------------------------------------------------------------------

    def first_rung(self, given: dict[str, Any]) -> str:
        """Is it an input at all, at its place, with a payload of its name?"""
        if given.get("broken"):
            return given["broken"]
        if given.get("stray"):
            return "WRONG_PARTITION"
        if given.get("other_key"):
            return "KEY_MISMATCH"
        rule = self.rules["inputs"].get(given["name"])
        if rule is None or rule["kind"] != given["kind"] or set(given["payload"]) != set(rule["payload"]):
            return "INVALID_PAYLOAD"
        if not all(fits(given["payload"][name], field) for name, field in rule["payload"].items()):
            return "INVALID_PAYLOAD"
        if not 0 < len(given["id"]) <= 128 or not 0 < len(given["entity"].encode()) <= 512:
            return "INVALID_PAYLOAD"
        occasion = self.occasion(rule, given)
        return "INVALID_PAYLOAD" if occasion is None or len(str(occasion)) > 512 else ""

    @staticmethod
    def occasion(rule: dict[str, Any], given: dict[str, Any]) -> tuple | None:
        """What the input is about: () where the entity itself remembers by name, None where it does not say."""
        if rule["dedup"] in ("once", "newest"):
            return ()
        if rule["dedup"] != "key":
            return ("fields", given["name"], *(given["payload"][name] for name in rule["dedup"]))
        if given["key"]:
            return ("key", given["key"])
        if given["kind"] == "SIGNAL":
            return ("key", given["id"])
        return ("cause", given["caused_by"], given["name"]) if given["caused_by"] else None

    # Rungs 2 to 10 ----------------------------------------------------------------------------------------------------

    def judge(self, given: dict[str, Any], entity: dict[str, Any]) -> dict[str, Any]:
        """Return the verdict of the first rung that has one; an accepted one holds the entity after it."""
        rule = self.rules["inputs"][given["name"]]
        return (
            self.repeated(rule, given, entity)
            or self.out_of_time(rule, given)
            or self.limited(rule, given, entity)
            or self.illegal_or_stale(rule, given, entity)
            or self.superseded(rule, given, entity)
            or self.evolved(rule, given, entity, self.fitting(rule, given, entity))
        )

    def repeated(self, rule: dict, given: dict, entity: dict) -> dict | None:
        first = None
        if rule["dedup"] == "once":
            first = entity["applied"].get(given["name"])
        elif rule["dedup"] == "newest":
            newest = entity["applied"].get(given["name"])
            first = newest if newest and newest["event_time"] == given["event_time"] else None
        else:
            remembered = self.memory.get((given["kind"], given["entity"], self.occasion(rule, given)))
            first = remembered if remembered and not self.expired(remembered["log_time"]) else None
        if first is None:
            return None
        if (first["name"], first["payload"]) == (given["name"], given["payload"]):
            return _verdict("DUPLICATE", "REPEATED", first=_first(first))
        return _verdict("REFUSED", "DEDUP_KEY_REUSED", first=_first(first))

    def out_of_time(self, rule: dict, given: dict) -> dict | None:
        if given["issued_at"] < self.log_time - self.rules["horizon_ms"]:
            return _verdict("REFUSED", "TOO_LATE")
        if max(given["issued_at"], given["event_time"]) > self.log_time + AHEAD_MAX_MS:
            return _verdict("REFUSED", "CLOCK_AHEAD")
        limits = [] if given["valid_until"] is None else [given["valid_until"]]
        if rule.get("valid_for_ms") is not None:
            limits.append(given["issued_at"] + rule["valid_for_ms"])
        if limits and min(limits) < self.decided_at:
            return _verdict("REFUSED", "EXPIRED")
        if rule.get("max_state_age_ms") is None:
            return None
        told = given["read_at"] is not None and given["read_at"] <= self.decided_at + AHEAD_MAX_MS
        fresh = told and given["read_at"] + rule["max_state_age_ms"] >= self.decided_at
        return None if fresh else _verdict("REFUSED", "STATE_TOO_OLD")

    def limited(self, rule: dict, given: dict, entity: dict) -> dict | None:
        for tree in rule.get("limits", ()):
            kept = value_of(tree, self.scope(given, entity))
            if kept is ERROR:
                return _verdict("REFUSED", "GUARD_ERROR")
            if not kept:
                leaves = [
                    at + self.rules["windows"][name]["within_ms"]
                    for name in _windows_in(tree)
                    for at, _ in self.within(name, entity, given["proposer"])
                ]
                return _verdict("REFUSED", "RATE_LIMITED", until=min(leaves, default=None))
        return None

    def illegal_or_stale(self, rule: dict, given: dict, entity: dict) -> dict | None:
        if not (self.fitting(rule, given, entity) or self.in_time(rule, entity)):
            return _verdict("REFUSED", "IGNORED" if rule.get("elsewhere") == "ignore" else "ILLEGAL_TRANSITION")
        fence = rule.get("fence", "none")
        if fence == "none":
            return None
        if given["base_incarnation"] is not None and given["base_incarnation"] != entity["incarnation"]:
            return _verdict("REFUSED", "STALE")
        if given["base_version"] > entity["version"]:
            return _verdict("REFUSED", "VERSION_AHEAD")
        changed: dict[int, list[str]] = {}
        for field in entity["changed_at"] if fence == "exact" else fence:
            version = entity["changed_at"].get(field, 0)
            if fence != "exact":  # deleted and created again: nothing is what it was, though it may look alike
                version = max(version, entity["reborn_at"])
            if version > given["base_version"]:
                changed.setdefault(version, []).append(field)
        if not changed:
            return None
        conflicts = [(version, sorted(fields)) for version, fields in sorted(changed.items())]
        return _verdict("REFUSED", "STALE", conflicts=conflicts)

    def superseded(self, rule: dict, given: dict, entity: dict) -> dict | None:
        newer = self.newer(rule, given, entity)
        compensated = newer and self.fitting(rule, given, entity)
        return _verdict("REFUSED", "SUPERSEDED", first=_first(newer)) if newer and not compensated else None

    def newer(self, rule: dict, given: dict, entity: dict) -> dict | None:
        """Return the newest applied fact of the name, if the input is older and the rule minds."""
        applied = entity["applied"].get(given["name"])
        minds = rule.get("late", "apply") != "apply" or rule["dedup"] == "newest"
        return applied if minds and applied and given["event_time"] < applied["event_time"] else None

    def fitting(self, rule: dict, given: dict, entity: dict) -> list[dict]:
        """Return the transitions that the input may take: late facts have others than those in time."""
        if self.newer(rule, given, entity):
            return [each for each in self.transitions(rule, entity["status"]) if each.get("late")]
        return self.in_time(rule, entity)

    def in_time(self, rule: dict, entity: dict) -> list[dict]:
        return [each for each in self.transitions(rule, entity["status"]) if not each.get("late")]

    def transitions(self, rule: dict, status: str) -> list[dict]:
        """Return the transitions that leave a status, in order."""
        anywhere = [name for name in self.rules["statuses"] if name not in self.rules["final"]]
        return [t for t in rule["transitions"] if status in (anywhere if t["from"] == ["any"] else t["from"])]

    def evolved(self, rule: dict, given: dict, entity: dict, transitions: list[dict]) -> dict:
        """Guards, values, invariants; in the end acceptance."""
        scope = self.scope(given, entity)
        chosen = None
        for transition in transitions:
            held = value_of(transition["guard"], scope) if transition.get("guard") else True
            if held is ERROR:
                return _verdict("REFUSED", "GUARD_ERROR")
            if held:
                chosen = transition
                break
        if chosen is None:
            return _verdict("REFUSED", "GUARD_FAILED")
        status = chosen["to"] or entity["status"]
        fields = dict(entity["fields"])
        for name in chosen["copy"]:
            fields[name] = given["payload"][name]
        for name, tree in chosen["set"].items():
            fields[name] = value_of(tree, scope)
            if fields[name] is ERROR or not fits(fields[name], self.rules["fields"][name]):
                return _verdict("REFUSED", "GUARD_ERROR")
        if status == ABSENT:
            fields = self.initial_fields()
        changed = [name for name in fields if fields[name] != entity["fields"][name]]
        changed += ["status"] if status != entity["status"] else []
        after = {**entity, "status": status, "fields": fields, "version": entity["version"] + bool(changed)}
        if changed:
            if entity["status"] == ABSENT and status != ABSENT:
                after["incarnation"] = max(self.log_time, entity["incarnation"] + 1)
            after["changed_at"] = {**entity["changed_at"], **dict.fromkeys(changed, after["version"])}
            after["deleted_at"] = self.log_time if status == ABSENT else 0
            if entity["version"] > 0 and entity["status"] == ABSENT and status != ABSENT:
                after["reborn_at"] = after["version"]
            after["timers"] = self.timers_after(entity, after, changed)
        return self.broken_invariant(after, scope) or {**_verdict("ACCEPTED", "NONE"), "after": after}

    def broken_invariant(self, after: dict, scope: dict) -> dict | None:
        if after["status"] == ABSENT:
            return None
        scope = {**scope, "state": after["fields"], "status": after["status"], "version": after["version"]}
        for tree in self.rules["invariants"].values():
            kept = value_of(tree, scope)
            if kept is ERROR:
                return _verdict("REFUSED", "GUARD_ERROR")
            if not kept:
                return _verdict("REFUSED", "INVARIANT_VIOLATED")
        return None


def _remembered_at(entity: dict) -> int:
    applied = [one["log_time"] for one in entity["applied"].values()]
    return max([entity["deleted_at"], *applied, *(entry["at"] for entry in entity["history"])])


def _windows_in(tree: tuple) -> set[str]:
    """Return the windows that an expression reads."""
    if tree[0] == "window":
        return {tree[1]}
    return {name for part in tree[1:] if isinstance(part, tuple) for name in _windows_in(part)}


def _gone_at(entity: dict) -> int:
    return entity["deleted_at"] or _remembered_at(entity)


def _first(applied: dict) -> tuple:
    return applied["id"], applied["version"], applied["log_time"]


def _verdict(
    outcome: str, reason: str, *, first: tuple | None = None, conflicts: list | None = None, until: int | None = None
) -> dict:
    return {"outcome": outcome, "reason": reason, "first": first, "conflicts": conflicts or [], "until": until}
