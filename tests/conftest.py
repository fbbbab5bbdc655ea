"""Fixtures and settings for all tests."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.broker_fixture"]

# Started in the background of a script, or by nohup, we ignore Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed: a busy machine must not fail one. The same examples each time, so that a failure can be run again.
settings.register_profile("placet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("placet")


@pytest.fixture(autouse=True)
def log_level_of_before() -> Iterator[None]:
    """Commands that run in the tests' process quiet the logs of the whole process: only until the test is over."""
    logger = logging.getLogger("placet")
    before = logger.level
    yield
    logger.setLevel(before)
