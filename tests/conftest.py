"""Fixtures and settings for all tests."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.broker_fixture"]

# Started in the background of a script, or by nohup, we ignore Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed: a busy machine must not fail one. The same examples each time, so that a failure can be run again.
settings.register_profile("placet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("placet")
