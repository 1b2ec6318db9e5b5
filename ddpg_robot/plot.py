"""What all pictures of benchmarks have in common."""

from __future__ import annotations

import importlib
from typing import Any

from ddpg_robot.errors import MissingExtraError, mismatch

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b8a600", "#777777", "#5b2a86")
"""The first six are Okabe and Ito's, which colour-blind people tell apart."""


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of a size in inches. Raises MissingExtraError where matplotlib is not installed."""
    try:
        figure = importlib.import_module("matplotlib.figure").Figure
    except ModuleNotFoundError as error:
        hint = 'pip install "ddpg-robot[bench]"'
        raise MissingExtraError(mismatch("picture", "no matplotlib", "extra bench", hint=hint)) from error
    return figure((width, height), dpi=120, layout="constrained")


def tidy(axes: Any) -> None:
    """Light grid, no frame above and to the right."""
    axes.grid(alpha=0.3, lw=0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
