"""Types of command-line arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

Flag = Annotated[bool, FlagCreatePairsOff]
Pairs = Annotated[tuple[str, ...], UseAppendAction, arg(metavar="KEY=VALUE")]
PolicyName = Annotated[Positional[str], arg(metavar="POLICY")]
PolicyOption = Annotated[str, arg(metavar="POLICY")]
RunPath = Annotated[Positional[Path], arg(metavar="RUN")]
OutFile = Annotated[Path | None, arg(metavar="FILE")]
OutDir = Annotated[Path | None, arg(metavar="DIR")]
