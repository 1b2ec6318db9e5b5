"""What an identification found, for people: a table in the terminal, one self-contained page."""

from __future__ import annotations

from html import escape

import numpy as np

from ddpg_robot.report.charts import Chart
from ddpg_robot.report.page import card, hero, legend, page, table, tile, tiles
from ddpg_robot_sim.identification.identify import Identified

HEAD = ("", "of", "factor or ms", "95 % interval", "value", "told by the data")
WIDTH = 500
"""Of a chart, pixels."""


def rows(found: Identified) -> list[tuple[str, ...]]:
    """A row for each parameter, as `HEAD`."""
    result = []
    for parameter, (value, low, high), told in zip(found.fit.parameters, found.fit.intervals(), found.fit.told()):
        own = f"{value * parameter.nominal:.4g} {parameter.unit}" if parameter.is_factor and parameter.unit else ""
        told_words = "yes" if told else "no: the prior's width"
        result.append((parameter.field, parameter.name, f"{value:.3f}", f"{low:.3f} .. {high:.3f}", own, told_words))
    return result


def as_table(found: Identified) -> str:
    """The same for a terminal, with the gap at its end."""
    lines = [HEAD, *rows(found)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    untold = [f"{p.field} {p.name}" for p, told in zip(found.fit.parameters, found.fit.told()) if not told]
    if untold:
        text.append(f"This motion does not tell: {', '.join(untold)}")
    return "\n".join([*text, gap_words(found)])


def gap_words(found: Identified) -> str:
    """The gap in a sentence."""
    (p0, v0), (p1, v1) = found.gap.overall("before"), found.gap.overall("after")
    return (
        f"Simulated against recorded, {found.gap.simulations} times {found.gap.seconds:g} s that were not fitted, rms: "
        f"{p0:.3g} -> {p1:.3g} rad, {v0:.3g} -> {v1:.3g} rad/s"
    )


def as_page(found: Identified) -> str:
    """The whole page, HTML."""
    (p0, v0), (p1, v1) = found.gap.overall("before"), found.gap.overall("after")
    told = found.fit.told()
    figures = [
        tile(f"{p0:.3g}", "rad", f"off after up to {found.gap.seconds:g} s, model as it was (rms)"),
        tile(f"{p1:.3g}", "rad", "the same, model as fitted"),
        tile(f"{v0 / v1:.3g}", "×", "closer in velocity"),
        tile(f"{sum(told)}", f"of {len(told)}", "parameters told by the data"),
    ]
    lead = f"{found.motion.usable_seconds:.1f} s of {escape(found.motion.source)}, {found.fit.simulations} simulations."
    blocks = [hero("ddpg_robot identify", "A model that moves as the robot did", lead), tiles(figures)]
    words = "Recorded, and simulated under the recorded efforts, from the recorded state again and again."
    keys = legend(("soft", "recorded"), ("ros", "model as it was"), ("here", "model as fitted"))
    charts = "".join(_joint(found, joint) for joint in range(len(found.motion.joints)))
    cells = card("What was fitted", "Factors of the model's own values.", table(HEAD, rows(found)), wide=True)
    blocks.append(
        f'<div class="cards">{card("Simulated against recorded", words, keys + charts, wide=True)}{cells}</div>'
    )
    return page("Identification", blocks)


def _joint(found: Identified, joint: int) -> str:
    """Position of one joint: recorded, before, after."""
    gap = found.gap
    time = gap.time - gap.time[0]
    recorded, before, after = (states[:, joint] for states in (gap.recorded, *gap.simulated))
    shown = np.concatenate([recorded, before, after])
    low, high = float(shown.min()), float(shown.max())
    name = found.motion.joints[joint]
    chart = Chart(
        (0.0, float(time[-1])), (low, high), f"position of {name}", "s", f"{name}, rad", width=WIDTH, height=220
    )
    for k in np.unique(gap.segment):
        rows_of = np.flatnonzero(gap.segment == k)[::4]
        for values, style in ((before, "ros thin"), (recorded, "link last"), (after, "here thin")):
            chart.line([(float(time[i]), float(values[i])) for i in rows_of], style)
    return chart.svg()
