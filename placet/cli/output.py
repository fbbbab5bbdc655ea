"""How commands print what they found. Beside `options`, because commands without settings print too."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["OutputForm", "OutputOption"]


class OutputForm(StrEnum):
    """How a command prints what it found."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[OutputForm, typer.Option("--output", "-o", help="How to print it.")]
