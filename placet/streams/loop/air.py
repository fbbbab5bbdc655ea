"""Air for the other threads: where a compiled loop lets the interpreter's lock go.

Compiled code keeps the lock for as long as it calls nothing interpreted: a batch of 4,000 inputs would hold back
metrics, restores and the client's callbacks for tens of milliseconds. The interpreter looks at the start of each of its
own functions whether somebody waits for the lock. So this module is never compiled.
"""

from __future__ import annotations

__all__ = ["come_up_for_air"]


def come_up_for_air() -> None:
    """Let another thread go first, if one waits."""
