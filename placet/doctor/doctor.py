"""`placet doctor`: a table of checks, each fine, to be looked at, or failed, with what to do about it.

A check asks one thing and returns what it found; checks that need a broker are left out when there is none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from placet.doctor import here
from placet.doctor.brokers import CHECKS, asked
from placet.doctor.result import CheckResult, Status
from placet.doctor.rules import ReadRules
from placet.schemas.definition.model import Definition
from placet.schemas.errors import PlacetError
from placet.streams.kafka.admin import Admin
from placet.streams.settings import Settings

__all__ = ["examine"]


def examine(
    settings: Settings,
    definitions: Sequence[Definition],
    admin: Admin,
    environment: Mapping[str, str] = os.environ,
    read_rules: ReadRules = tuple,
) -> Iterator[CheckResult]:
    """Run all checks; each is given as soon as it is known. `read_rules` reads what is published."""
    yield here.python()
    yield here.variables(settings, environment)
    yield here.compiled(definitions)
    yield here.state_dir(settings.state_dir)
    yield here.registry(settings)
    try:
        subject = asked(settings, definitions, admin, read_rules)
    except PlacetError as error:
        yield CheckResult("brokers", Status.FAIL, str(error), "Nothing else can be checked without a broker.")
        return
    yield CheckResult(
        "brokers", Status.OK, f"cluster {subject.cluster.cluster_id}: {', '.join(subject.cluster.brokers.values())}"
    )
    for name, look in CHECKS.items():
        try:
            yield from look(subject)
        except PlacetError as error:
            yield CheckResult(name, Status.FAIL, str(error))
