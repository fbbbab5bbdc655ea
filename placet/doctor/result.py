"""What a check of `placet doctor` finds."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["CheckResult", "Status"]


class Status(StrEnum):
    """How a check ended. Only FAIL keeps a gate from working as promised."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class CheckResult(NamedTuple):
    """What one check found, and what to do about it."""

    name: str
    status: Status
    found: str
    todo: str = ""
