"""What is installed: which version, and whether the modules that decide in it are compiled."""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Final

__all__ = ["installed_version", "kind_of_build"]

_DECIDES: Final = "placet.processors.ladder"
"""Stands for all compiled modules: a build has all of them or none (`ops/build` looks)."""


def installed_version() -> str:
    """The version of Placet as it is installed, "source" when it runs from a checkout."""
    try:
        return version("placet")
    except PackageNotFoundError:
        return "source"


def kind_of_build() -> str:
    """Return "compiled" where Python loads the ladder as an extension module, else "interpreted"."""
    found = find_spec(_DECIDES)
    compiled = found is not None and isinstance(found.loader, ExtensionFileLoader)
    return "compiled" if compiled else "interpreted"
