"""The keyword arguments of both clients, typed once (PEP 692)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Required, TypedDict

from placet.streams.settings import Settings

__all__ = ["ClientOptions", "ProposalOptions", "SignalOptions"]


class ClientOptions(TypedDict, total=False):
    """Options of a client; `AsyncClient` describes each."""

    app: str | None
    bootstrap_servers: str | None
    sender: str
    settings: Settings | None
    connect_timeout_s: float


class SignalOptions(TypedDict, total=False):
    """Options of a signal; `AsyncClient.signal` describes each. Times are ms since the epoch or datetimes."""

    signal_id: Required[str]
    event_time: int | datetime | None
    caused_by: str | None
    source: str | None
    traceparent: str | None


class ProposalOptions(TypedDict, total=False):
    """Options of a proposal; `AsyncClient.propose` describes each. Times are ms since the epoch or datetimes."""

    dedup_key: str | None
    caused_by: str | None
    proposal_id: str | None
    valid_for: timedelta | None
    issued_at: int | datetime | None
    rationale: str | None
    model: str | None
    metadata: Mapping[str, str] | None
    proposer: str | None
    traceparent: str | None
