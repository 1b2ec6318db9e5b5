"""The page of `ddpg-robot transfer`: what is left of a policy on robots that differ, as tables, curves and heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ddpg_robot import __version__
from ddpg_robot.report.charts import Chart
from ddpg_robot.report.page import card, hero, notice, page, table, tile, tiles
from ddpg_robot.report.sections import HALF, percent

Result = dict[str, Any]
NAMES = {"policy": "this policy", "beside": "beside it", "reference": "reference", "random": "random actions"}
CELL = (78, 40)
"""Width and height of a cell of a heat map, px."""
MARGIN = (96, 58)
"""Left of a heat map and under it, for its labels, px."""


def transfer_page(found: Result, films: Sequence[tuple[str, str]] = ()) -> str:
    """The whole page.

    Args:
        found: what `ddpg-robot transfer` measured, as in its `transfer.json`.
        films: image element and caption of each film; without an element, a remark.
    """
    rows = found["stress"]["policy"]
    title = f"{found['policy']} keeps {percent(found['kept'])} of its success when everything differs at once"
    lead = (
        f"Task {escape(found['task'].split('/')[-1])}, mode {escape(str(found['control_mode']))}: "
        f"{found['episodes']} episodes as modelled and {found['episodes']} under the whole stress, seed {found['seed']}."
    )
    figures = [
        tile(percent(rows["nominal"]["success_rate"])[:-2], "%", "success on the robot as modelled"),
        tile(percent(rows["together"]["success_rate"])[:-2], "%", "success under the whole stress"),
    ]
    if "ros" in found:
        figures.append(
            tile(percent(found["ros"]["success_rate"])[:-2], "%", "the same over ROS 2, with its real delays")
        )
    score = found["scores"].get("policy", {}).get("together")
    if score is not None:
        figures.append(tile(f"{score:.2f}", "", "score under it: 0 is chance, 1 the reference"))
    cards = [stress(found), *(curve(axis, found) for axis in found["axes"].values())]
    cards += [heat_card(grid, found) for grid in found["grids"]] + [limits(found)]
    remarks = [notice(words) for element, words in films if not element]
    shown = [
        card(words, "Its last seconds, from the simulator.", element)
        for element, words in films
        if element
    ]  # fmt: skip
    footer = f"<footer>ddpg_robot {__version__}. This page is one file and fetches nothing.</footer>"
    body = f'<div class="cards">{"".join([*cards, *shown])}</div>'
    return page(title, [hero("ddpg_robot transfer", title, lead), *remarks, tiles(figures), body, footer])


def stress(found: Result) -> str:
    """Success per part of the stress and for all of them together, a column for each who was measured."""
    columns = [who for who in NAMES if who in found["stress"]]
    head = ["", *(f"{NAMES[who]}: {found[who]}" if found.get(who) else NAMES[who] for who in columns)]
    scored = "policy" in found["scores"]
    rows = []
    for name in found["stress"]["policy"]:
        cells = [percent(found["stress"][who][name]["success_rate"]) for who in columns]
        score = found["scores"]["policy"][name] if scored else None
        rows.append([name, *cells, *(["–" if score is None else f"{score:.2f}"] if scored else [])])
    words = (
        "Success on the robot as modelled, on robots that differ in all ways together, in one way only, and at the ends "
        f"of all ranges; {found['episodes']} episodes in the first two rows, {found['cell_episodes']} in others. "
        "Score: (policy - random) / (reference - random) of the mean returns, where the reference succeeds."
    )
    return card("Under stress", words, table([*head, *(["score"] if scored else [])], rows), wide=True)


def curve(axis: Result, found: Result) -> str:
    """Success over the levels of one axis."""
    levels, rates = axis["levels"], [100 * rate for rate in axis["success_rate"]]
    unit = "" if axis["unit"] in ("factor", "part") else f", {axis['unit']}"
    chart = Chart((levels[0], levels[-1]), (0, 105), axis["words"], axis["words"] + unit, "success, %", width=HALF)
    chart.level(90 * found["stress"]["policy"]["nominal"]["success_rate"], "90 % of nominal")
    points = list(zip(levels, rates))
    chart.area(points, "here")
    chart.line(points, "here")
    for level, rate in points:
        chart.dot((level, rate), "here solid", f"{level:g}: {rate:.0f} %")
    words = f"{axis['words'].capitalize()}, all else as modelled; {found['cell_episodes']} episodes per dot."
    return card("One at a time", words, chart.svg())


def heat_card(grid: Result, found: Result) -> str:
    """Success over two axes at once."""
    bar = 0.9 * found["stress"]["policy"]["nominal"]["success_rate"]
    words = f"Success in %, {found['cell_episodes']} episodes per cell. Ringed: under 90 % of nominal."
    names = (grid[axis].partition(",")[0] for axis in "xy")
    return card(f"{found[grid['who']]}: {' and '.join(names)}", words, heat_map(grid, bar))


def heat_map(grid: Result, bar: float) -> str:
    """An SVG of one cell per pair of levels; the fuller its colour, the higher the success.

    Args:
        grid: `x`, `y` names of the axes; `xs`, `ys` their levels; `success_rate` of each row of cells, by `ys`.
        bar: success below which a cell is ringed.
    """
    (wide, high), (left, under) = CELL, MARGIN
    width, height = left + wide * len(grid["xs"]) + 8, high * len(grid["ys"]) + under
    parts = []
    for row, (y, rates) in enumerate(zip(reversed(grid["ys"]), reversed(grid["success_rate"]))):
        top = row * high + 4
        parts.append(f'<text class="tick end" x="{left - 8}" y="{top + high / 2 + 4:g}">{y:g}</text>')
        for column, (x, rate) in enumerate(zip(grid["xs"], rates)):
            at = left + column * wide
            style = "cell low" if rate < bar else "cell"
            tip = f"<title>{escape(grid['x'])} {x:g}, {escape(grid['y'])} {y:g}: {100 * rate:.0f} %</title>"
            parts.append(
                f'<rect class="{style}" x="{at + 2}" y="{top + 2}" width="{wide - 4}" height="{high - 4}" rx="5" '
                f'style="fill-opacity:{0.06 + 0.64 * rate:.2f}">{tip}</rect>'
                f'<text class="note middle" x="{at + wide / 2:g}" y="{top + high / 2 + 4:g}">{100 * rate:.0f}</text>'
            )
    for column, x in enumerate(grid["xs"]):
        bottom = high * len(grid["ys"]) + 20
        parts.append(f'<text class="tick middle" x="{left + (column + 0.5) * wide:g}" y="{bottom}">{x:g}</text>')
    middle, turn = left + wide * len(grid["xs"]) / 2, f"translate(30 {high * len(grid['ys']) / 2:g}) rotate(-90)"
    parts.append(f'<text class="title middle" x="{middle:g}" y="{height - 14}">{escape(grid["x"])}</text>')
    parts.append(f'<text class="title middle" transform="{turn}">{escape(grid["y"])}</text>')
    label = f"success over {grid['x']} and {grid['y']}"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def limits(found: Result) -> str:
    """The first level of each axis, down and up from nominal, at which less than 90 % of the nominal success is left."""
    if not found["axes"]:
        return ""

    def words(level: float | None) -> str:
        return "none tried" if level is None else f"{level:g}"

    rows = [
        [axis["words"], words(axis["first_failing"]["below"]), words(axis["first_failing"]["above"]), axis["unit"]]
        for axis in found["axes"].values()
    ]
    said = "The first level on either side of the model's own at which less than 90 % of the nominal success is left."
    return card("Where it fails first", said, table(["", "below", "above", "unit"], rows), wide=True)
