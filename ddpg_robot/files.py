"""Files that are either written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, data: Any) -> None:
    """Writes JSON in one step: whoever reads the file sees all of it, or the file before."""
    write_whole(path, json.dumps(data, indent=1, allow_nan=True) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Writes a text file in one step, also when the process dies in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
