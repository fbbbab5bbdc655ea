"""The small process between a caller and its broker: when the caller is gone, by `kill -9` too, the broker goes.

Runs by its path (`python -I guard.py ORDER`) and imports the standard library alone: 10 MB, up at once. ORDER
is JSON: `commands` run one after the other, the last is the broker; `caller` is the process to watch, null for a
detached broker, whose guard becomes the broker (exec); `remove` is a folder that no one needs when the caller has
gone. That the parent changed is how the end of the caller is seen: it works on Linux and macOS, for every kind of
death, and unlike a pipe it does not mind that forked children of the caller hold copies of its file descriptors.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LOOK_EACH_S = 0.1
REMOVE_FOR_S = 5.0


def main(order: dict[str, Any]) -> int:
    """Runs the order. Returns the exit code of the first command that failed, else the broker's."""
    asked_to_stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: asked_to_stop.append(number))
    *preparations, broker = order["commands"]
    for command in preparations:
        code = subprocess.run(command, check=False).returncode  # noqa: S603 (the order is our own)
        if code:
            return code
    if order["caller"] is None:
        _write_pid(Path(order["pid_file"]), os.getpid())
        os.execv(broker[0], broker)  # noqa: S606
    # close_fds=False: the broker inherits the lock of its data folder, and so holds it as long as it lives.
    child = subprocess.Popen(broker, close_fds=False)  # noqa: S603
    _write_pid(Path(order["pid_file"]), child.pid)
    while child.poll() is None and not asked_to_stop and os.getppid() == order["caller"]:
        time.sleep(LOOK_EACH_S)
    alone = os.getppid() != order["caller"]
    _end(child, grace_s=0 if alone and order["remove"] else order["grace_s"])
    if alone and order["remove"]:
        _remove(Path(order["remove"]))
    return child.returncode


def _remove(folder: Path) -> None:
    """Remove a folder that others may still write to, or remove as well: until it is gone, or for five seconds."""
    deadline_s = time.monotonic() + REMOVE_FOR_S
    while folder.exists() and time.monotonic() < deadline_s:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(LOOK_EACH_S)


def _write_pid(file: Path, pid: int) -> None:
    """At once or not at all: a reader never sees half a number."""
    draft = file.with_suffix(".draft")
    draft.write_text(f"{pid}\n", encoding="ascii")
    draft.replace(file)


def _end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    if child.poll() is None and grace_s:
        child.terminate()
        child.send_signal(signal.SIGCONT)  # a paused broker hears nothing else
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
