"""`python -m placet.cli`: the same as `placet`."""

from placet.cli import main

main()
