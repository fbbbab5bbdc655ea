"""`python -m tests.planted [NAME ...]`: looks for each planted bug, and prints the table of docs/reliability.md.

Exit codes: 0 all are found; 1 one is not, or does not apply any more; 2 there is no such bug.
"""

from __future__ import annotations

import sys

from tests.planted.bugs import BUGS, SEEDS_MAX, PlantedBug, found_first

HEAD = "| bug | what is taken away | world | first seed | seen by |\n| --- | --- | --- | --- | --- |"


def row(bug: PlantedBug) -> str:
    """Return what a bug's row begins with: all but what is measured."""
    return f"| `{bug.name}` | {bug.words.partition('. ')[0]} | {bug.world} |"


def main(names: list[str]) -> int:
    """Look for bugs, all of them where none is named."""
    if unknown := set(names) - BUGS.keys():
        print(f"no such bug: {', '.join(sorted(unknown))}; there are {', '.join(BUGS)}", file=sys.stderr)
        return 2
    missed = 0
    print(HEAD)
    for bug in (BUGS[name] for name in names or BUGS):
        try:
            seed, wrong = found_first(bug)
        except AssertionError as error:
            print(error, file=sys.stderr)
            missed += 1
            continue
        missed += not seed
        seen_by = wrong[0].partition(":")[0] if seed else f"nothing, in {SEEDS_MAX:,} seeds"
        print(row(bug), f"{seed or '–'} | {seen_by} |", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
