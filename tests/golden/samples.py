"""Fixed objects of every kind that crosses Kafka, and their bytes as they were pinned.

The bytes are a contract with records that lie in topics already. A test compares them; when a change of the bytes is
meant, say so in the changelog and write them anew:

    python -m tests.golden.samples --write
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from placet.definitions import load_definition
from placet.schemas.codec.codec import Codec
from placet.schemas.codec.contracts import contracts
from placet.schemas.codec.control import Published, encode_control
from placet.schemas.codec.dead_letter import encode_dead_letter
from placet.schemas.decision import Conflict, Coordinates, Decision, Fired, First, Outcome, Reason, Resolved
from placet.schemas.ledger import (
    AppliedEntry,
    Commit,
    Counted,
    CountedPart,
    Disarmed,
    Genesis,
    Held,
    KeptWindow,
    LedgerEntry,
    MemoryEntry,
    Span,
    Windows,
)
from placet.schemas.memory import Applied, Memory
from placet.schemas.messages import Kind, Message, Priority
from placet.schemas.state import Change, EntityState
from placet.streams.records import ConsumerRecord

HERE = Path(__file__).parent
RECORDS = HERE / "records.json"
SCHEMAS = HERE / "schemas"
DEFINITION = load_definition(HERE / "parcel.yaml")

T = 1_767_225_600_000
DIGEST = bytes(range(16))

SCANNED = Message(
    Kind.SIGNAL,
    "scanned",
    "scan-1",
    "parcel-7",
    {"place": "Köln", "weight_g": -1, "scans": 2**40, "due": None},
    T,
    T + 1,
    "occasion-1",
    None,
    proposer="scanner-3",
)
RE_ROUTED = Message(
    Kind.PROPOSAL,
    "re_route_2",
    "proposal-1",
    "parcel-7",
    {
        "place": "Łódź",
        "risk": 0.125,
        "fragile": False,
        "fee": Decimal("-128.00"),
        "labels": ["a", "", "ü"],
        "dimensions_mm": {"x": 1, "b": -(2**31), "a": 2**31 - 1},
        "note": None,
        "due": T + 86_400_000,
    },
    T,
    T,
    None,
    "scan-1",
    T + 60_000,
    17,
    T - 5,
    Priority.LOW,
    "agent-7",
)
GIVEN_UP = Message(
    Kind.PROPOSAL, "give_up", "proposal-2", "parcel-7", {}, T, T, "occasion-2", None, None, 0, None, Priority.NORMAL, ""
)

AT = Coordinates("demo.parcel.proposals", 3, 2**40, T + 9, T + 10, 4, 70_000, 0, DIGEST, 12)
ACCEPTED = Decision(
    Outcome.ACCEPTED,
    Reason.NONE,
    Kind.PROPOSAL,
    "re_route_2",
    "proposal-1",
    "parcel-7",
    "cause:scan-1/re_route_2",
    DIGEST[::-1],
    True,
    17,
    18,
    T - 5,
    "accepted",
    "accepted",
)
RESOLVING = replace(ACCEPTED, resolves=Resolved("demo.parcel.proposals", 2**40 - 1))
FIRED = replace(ACCEPTED, input_id="", dedup_key="", timer=Fired(T - 5, 17))
NOWHERE = replace(AT, topic="", offset=-1)
REPEATED = Decision(
    Outcome.DUPLICATE,
    Reason.REPEATED,
    Kind.SIGNAL,
    "scanned",
    "scan-2",
    "parcel-7",
    "key:occasion-1",
    DIGEST,
    False,
    18,
    18,
    T - 5,
    "in_transit",
    "in_transit",
    "",
    First("scan-1", 3, T),
)
STALE = Decision(
    Outcome.REFUSED,
    Reason.STALE,
    Kind.PROPOSAL,
    "give_up",
    "proposal-2",
    "parcel-7",
    "key:occasion-2",
    DIGEST,
    False,
    18,
    18,
    T - 5,
    "in_transit",
    "in_transit",
    "based on version 0, the state is at 18",
    None,
    (Conflict(17, ("status",)), Conflict(18, ("fee", "place"))),
)
UNDECODABLE = Decision(
    Outcome.REFUSED, Reason.UNDECODABLE, Kind.SIGNAL, "", "", "", "", b"", False, 0, 0, 0, "", "", "torn"
)

CHANGE = Change(
    "parcel-7",
    EntityState(
        18,
        T - 5,
        "in_transit",
        {
            "place": "Łódź",
            "weight_g": -1,
            "scans": 2**40,
            "risk": 0.125,
            "fragile": False,
            "due": None,
            "fee": Decimal("-128.00"),
            "labels": ["a", "", "ü"],
            "dimensions_mm": {"a": 2**31 - 1, "b": -(2**31), "x": 1},
            "note": "",
        },
        {"place": 18, "status": 17, "fee": 18},
        {"scanned": Applied(T, "scan-1", DIGEST, 3, T)},
    ),
    Kind.PROPOSAL,
    "re_route_2",
    "proposal-1",
    "cause:scan-1/re_route_2",
    DIGEST[::-1],
    T,
    T + 9,
    T + 10,
    "demo.parcel.proposals",
    2**40,
    4,
    70_000,
    DIGEST,
    "agent-7",
)
CARRYING = replace(
    CHANGE,
    state=replace(CHANGE.state, carried={"tax": "1.50", "owner": None, "rooms": {"b": 1.5, "a": -1}}),
)
COUNTING = replace(
    CHANGE,
    state=CHANGE.state.counting({"sum scanned.n by proposer": {"depot ü": [T - 7, 1, T, -(2**40)], "": [T - 9, 1]}}),
)
DELETION = Change(
    "parcel-8",
    EntityState(
        2,
        T - 5,
        "absent",
        {
            "place": None,
            "weight_g": 0,
            "scans": 0,
            "risk": 0.5,
            "fragile": False,
            "due": None,
            "fee": Decimal("1.50"),
            "labels": [],
            "dimensions_mm": {},
            "note": None,
        },
        {"status": 2},
        {},
        T + 9,
    ),
    Kind.SIGNAL,
    "scanned",
    "scan-9",
    "",
    DIGEST,
    T,
    T + 9,
    T + 10,
    "demo.parcel.signals",
    0,
    4,
    70_000,
    DIGEST,
)

LEDGER: dict[str, LedgerEntry] = {
    "genesis": Genesis({"demo.parcel.signals": "id-1", "demo.parcel.ledger": "id-2"}, 4, T, T + 1),
    "commit": Commit(
        4,
        70_000,
        (Span("demo.parcel.signals", 5, 5), Span("demo.parcel.proposals", 2**40, 2**40 + 1)),
        T + 9,
        T + 10,
        T,
        12,
        DIGEST,
        1,
        480,
        300,
        b"\x00" * 32,
        b"\xff" * 32,
    ),
    "memory": MemoryEntry(2, "parcel-7", "key:occasion-2", Memory(DIGEST, "proposal-2", 18, T), 4, 70_000),
    "applied": AppliedEntry("parcel-7", T - 5, "scanned", Applied(T, "scan-1", DIGEST, 3, T), 4, 70_000),
    "held": Held(
        2,
        "parcel-7",
        "key:occasion-3",
        "re_route_2",
        "proposal-1",
        "demo.parcel.proposals",
        2**40,
        1101,
        T + 9,
        T + 60_000,
        DIGEST,
        17,
        DIGEST,
        '"string"',
        b"\x00\x01",
        4,
        70_000,
    ),
    "disarmed": Disarmed("parcel-7", T - 5, "late", 18, 4, 70_000),
}
LEDGER_WINDOWS: dict[str, LedgerEntry] = {
    "windows": Windows((KeptWindow("scans_1h", "count scanned by proposer", 3_600_000, T - 9, T - 8),), 4, 70_000),
    "counted": Counted(
        "parcel-7",
        T - 5,
        18,
        T,
        (CountedPart("sum scanned.n by proposer", "depot ü", [T - 7, T], [1, -(2**40)]),),
        4,
        7,
    ),
}

PUBLISHED = Published("parcel", 1, DIGEST, 1, '{"entity":"parcel"}', {"signal": "{}", "change": "{}"}, T, DIGEST)
POISON = ConsumerRecord("demo.parcel.signals", 3, 2**40, T, b"\xff", b"\x00poison", [("traceparent", b"00-1")])


def golden() -> dict[str, str]:
    """Return the bytes of every sample as hex, headers behind the value."""
    codec = Codec(DEFINITION)
    samples = {
        "signal.scanned": codec.encode_message(SCANNED),
        "proposal.re_route_2": codec.encode_message(
            RE_ROUTED, rationale="the road is closed", model="a-model-1", metadata={"run": "9", "attempt": "1"}
        ),
        "proposal.give_up": codec.encode_message(GIVEN_UP),
        "decision.accepted": codec.encode_decision(ACCEPTED, AT),
        "decision.repeated": codec.encode_decision(REPEATED, AT),
        "decision.stale": codec.encode_decision(STALE, AT),
        "decision.resolving": codec.encode_decision(RESOLVING, AT),
        "decision.fired": codec.encode_decision(FIRED, NOWHERE),
        "decision.undecodable": codec.encode_decision(UNDECODABLE, AT),
        "change.change": _with_headers(codec.encode_change(CHANGE)),
        "change.carrying": _with_headers(codec.encode_change(CARRYING)),
        "change.counting": _with_headers(codec.encode_change(COUNTING)),
        "change.deletion": _with_headers(codec.encode_change(DELETION)),
        **{f"ledger.{name}": codec.encode_ledger(entry) for name, entry in LEDGER.items()},
        **{f"ledger_windows.{name}": codec.encode_ledger(entry) for name, entry in LEDGER_WINDOWS.items()},
        "control.published": encode_control(PUBLISHED),
        "dead_letter.poison": encode_dead_letter(POISON, UNDECODABLE, AT),
    }
    return {name: value.hex() for name, value in samples.items()}


def golden_schemas() -> dict[str, str]:
    """Return the generated schemas as they are exported."""
    return {
        f"parcel.{role}.avsc": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for role, schema in contracts(DEFINITION)._asdict().items()
    }


def _with_headers(encoded: tuple[bytes, list[tuple[str, bytes]]]) -> bytes:
    value, headers = encoded
    return value + b"".join(name.encode() + content for name, content in headers)


def write() -> None:
    """Write the golden files anew."""
    RECORDS.write_text(json.dumps(golden(), indent=2) + "\n", encoding="utf-8")
    SCHEMAS.mkdir(exist_ok=True)
    for name, text in golden_schemas().items():
        (SCHEMAS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
