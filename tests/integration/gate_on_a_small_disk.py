"""A gate whose files can't grow beyond 60 kB, as on a full disk. Otherwise `placet`."""

from __future__ import annotations

from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit

from placet.cli import main

setrlimit(RLIMIT_FSIZE, (60_000, RLIM_INFINITY))

main()
