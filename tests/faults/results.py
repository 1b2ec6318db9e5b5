"""What many trials of every fault have shown, as JSON and as the table of docs/safety.md."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
from faults.catalogue import ALL_FAULTS, MUST, Fault
from faults.rig import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "safety.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


class Results:
    """Outcomes by fault.

    Args:
        file: JSON file that takes the figures of every fault at once, beside those of other faults that it has; with it
            goes the table of docs/safety.md. None: nowhere.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._outcomes: dict[str, list[Outcome]] = {}

    def add(self, fault: Fault, outcomes: list[Outcome]) -> None:
        """Keeps the outcomes of a fault, and publishes them."""
        self._outcomes[fault.name] = outcomes
        if self._file is not None:
            self._publish(self._file, fault)

    def disorder(self, fault: Fault) -> int:
        """Trials of a fault in which something else happened than must, or later."""
        return sum(not fault.in_order(outcome) for outcome in self._outcomes[fault.name])

    def _publish(self, file: Path, fault: Fault) -> None:
        rows = json.loads(file.read_text())["faults"] if file.exists() else {}
        rows[fault.name] = self._row(fault)
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        result = {"machine": machine, "period_ms": 20.0, "faults": rows}
        file.write_text(json.dumps(result, indent=1) + "\n")
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + table(result) + END + rest.partition(END)[2])

    def _row(self, fault: Fault) -> dict[str, Any]:
        outcomes = self._outcomes[fault.name]
        reactions = [outcome.reaction for outcome in outcomes]
        calm = fault.must == "goes on"
        return {
            "trials": len(outcomes),
            "reaction_p50": None if calm else round(float(np.median(reactions)), 2),
            "reaction_max": None if calm else round(max(reactions), 2),
            "held_max": round(max(outcome.held for outcome in outcomes), 2),
            "largest_effort": round(max(outcome.largest for outcome in outcomes), 3),
            "trips": sum(outcome.tripped for outcome in outcomes),
            "not_as_it_must": self.disorder(fault),
        }


def table(result: dict[str, Any]) -> str:
    """The measured faults as Markdown."""
    lines = [
        "| fault | what must happen | reaction p50 | max | longest held command | largest effort | not so, or later |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in ALL_FAULTS:
        row = result["faults"].get(fault.name)
        if row is not None:
            times = [row["reaction_p50"], row["reaction_max"], row["held_max"]]
            shown = ["" if one is None else f"{one:.1f}" for one in times]
            cells = [fault.name, MUST[fault.must], *shown, f"{row['largest_effort']:.0%}".replace("%", " %")]
            lines.append(f"| {' | '.join(cells)} | {row['not_as_it_must']} of {row['trials']} |")
    return "\n".join(lines) + "\n"
