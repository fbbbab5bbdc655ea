"""Exit codes of `placet`, in one table. They tell a script or a supervisor what to do.

`placet broker status` has its own code 3 (stopped), as other tools that show the status of a service.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["MEANINGS", "ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """The exit code of a command."""

    OK = 0
    DIFFERENCE = 1
    USAGE = 2
    WRONG = 3
    UNREACHABLE = 4
    STOPPED = 5
    BROKEN = 70
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "Done, or everything is as it should be; a gate was told to stop and did.",
    ExitCode.DIFFERENCE: "A check failed, a difference was found, an input was refused; it is in the output.",
    ExitCode.USAGE: "The command line, or the payload in it, is wrong.",
    ExitCode.WRONG: "A setting, a topic or a definition is wrong: mend it, then start again.",
    ExitCode.UNREACHABLE: "Broker, registry or gate did not answer in time: start again later.",
    ExitCode.STOPPED: "The gate stopped itself, to lose nothing: mend what it names, then start it again.",
    ExitCode.BROKEN: "A call into Kafka's client hung (the watchdog ended it), or a bug: start it again.",
    ExitCode.INTERRUPTED: "Ended by Ctrl-C.",
}

# By name: importing the classes would cost every command the import of Kafka's client.
_BY_ERROR = {
    "BrokerUnreachable": ExitCode.UNREACHABLE,
    "LogUnreachable": ExitCode.UNREACHABLE,
    "RegistryUnreachable": ExitCode.UNREACHABLE,
    "DecisionTimeout": ExitCode.UNREACHABLE,
    "NotDelivered": ExitCode.UNREACHABLE,
    "ReadTimeout": ExitCode.UNREACHABLE,
    "InvalidPayload": ExitCode.USAGE,
    "NoOccasion": ExitCode.USAGE,
    "SettingsError": ExitCode.WRONG,
    "DefinitionError": ExitCode.WRONG,
    "PlacetError": ExitCode.STOPPED,
}


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an error: that of its nearest class that has one."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return next((_BY_ERROR[name] for name in names if name in _BY_ERROR), ExitCode.BROKEN)
