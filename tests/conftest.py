"""Fixtures and settings for all tests."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.broker_fixture"]

# Started in the background of a script, or by nohup, we ignore Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed: a busy machine must not fail one. The same examples each time, so that a failure can be run again.
settings.register_profile("placet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("placet")


@pytest.fixture(autouse=True)
def logs_of_before() -> Iterator[None]:
    """Commands that run in the tests' process set the logs of the whole process: only until the test is over."""
    loggers = [logging.getLogger(name) for name in ("placet", "placet.librdkafka")]
    before = [(logger.level, logger.propagate, [*logger.handlers]) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers
    structlog.reset_defaults()
