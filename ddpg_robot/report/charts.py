"""Charts as inline SVG, styled by the page's CSS classes: no plotting library, crisp at any size, light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Maps a range of values to pixels, linearly or by logarithm."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float
    """Pixel of `high`."""
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value; values beyond the range stay at its ends."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self._floor)))
        part = (value - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * min(1.0, max(0.0, part))

    @property
    def _floor(self) -> float:
        return self.low if self.log else -math.inf

    def ticks(self, count: int = 5) -> list[float]:
        """About `count` round values within the range."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            marks = (1, 2, 5) if self.high < 1000 * self.low else (1,)
            values = [m * 10.0**d for d in decades for m in marks]
        else:
            raw = (self.high - self.low) / count or 1.0
            power = 10.0 ** math.floor(math.log10(raw))
            step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
            first = math.ceil(self.low / step - 1e-9)
            values = [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [v for v in values if self.low * 0.999999 <= v <= self.high * 1.000001 or v == 0 == self.low]


@dataclass
class Chart:
    """One plot: axes first, then marks, then `svg`."""

    x: tuple[float, float]
    """Range of the horizontal axis."""
    y: tuple[float, float]
    """Range of the vertical axis."""
    label: str
    """What it shows, for those who cannot see it."""
    x_title: str = ""
    y_title: str = ""
    x_log: bool = False
    y_log: bool = False
    width: int = 640
    height: int = 280
    x_format: Callable[[float], str] = "{:g}".format
    y_format: Callable[[float], str] = "{:g}".format
    equal: bool = False
    """One unit is as long in both directions (drawings of the arm)."""
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        left, right, top, bottom = 56.0, 18.0, 18.0, 44.0
        x_span, y_span = self.width - left - right, self.height - top - bottom
        if self.equal:
            unit = min(x_span / (self.x[1] - self.x[0]), y_span / (self.y[1] - self.y[0]))
            left += round((x_span - unit * (self.x[1] - self.x[0])) / 2)
            x_span, y_span = unit * (self.x[1] - self.x[0]), unit * (self.y[1] - self.y[0])
            self.height = round(top + y_span + bottom)
        self.sx = Scale(*self.x, left, left + x_span, self.x_log)
        self.sy = Scale(*self.y, top + y_span, top, self.y_log)
        self._axes()

    def _axes(self) -> None:
        x0, x1, y0, y1 = self.sx.start, self.sx.end, self.sy.start, self.sy.end
        for value in self.sy.ticks():
            y = self.sy(value)
            self.segment((x0, y), (x1, y), "grid")
            self.text(x0 - 8, y + 4, self.y_format(value), "tick end")
        for value in self.sx.ticks(8 if self.width > 500 else 5):
            x = self.sx(value)
            self.segment((x, y0), (x, y0 + 4), "axis")
            self.text(x, y0 + 18, self.x_format(value), "tick middle")
        self.segment((x0, y0), (x1, y0), "axis")
        self.text((x0 + x1) / 2, y0 + 37, self.x_title, "title middle")
        middle = (y0 + y1) / 2
        if self.y_title:
            turn = f"translate({x0 - 44:.1f} {middle:.1f}) rotate(-90)"
            self.parts.append(f'<text class="title middle" transform="{turn}">{escape(self.y_title)}</text>')

    def text(self, x: float, y: float, words: str, style: str) -> None:
        """Words at a pixel position."""
        self.parts.append(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>')

    def segment(self, start: Point, end: Point, style: str) -> None:
        """A straight line between pixel positions."""
        (x1, y1), (x2, y2) = start, end
        self.parts.append(f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def line(self, points: Sequence[Point], style: str) -> None:
        """A line through points."""
        if points:
            path = "L".join(f"{self.sx(x):.1f} {self.sy(y):.1f}" for x, y in points)
            self.parts.append(f'<path class="line {style}" d="M{path}"/>')

    def area(self, points: Sequence[Point], style: str) -> None:
        """The area between a line and the horizontal axis."""
        if points:
            path = "L".join(f"{self.sx(x):.1f} {self.sy(y):.1f}" for x, y in points)
            first, last, base = self.sx(points[0][0]), self.sx(points[-1][0]), self.sy.start
            self.parts.append(f'<path class="area {style}" d="M{first:.1f} {base:.1f}L{path}L{last:.1f} {base:.1f}Z"/>')

    def dot(self, point: Point, style: str, tip: str = "", radius: float = 4.0) -> None:
        """A dot, with words for whoever points at it."""
        x, y = self.sx(point[0]), self.sy(point[1])
        words = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{words}</circle>')

    def bar(self, x0: float, x1: float, height: float, style: str, tip: str = "") -> None:
        """A bar from the horizontal axis up to `height`, between two values of x."""
        left, right, top = self.sx(x0), self.sx(x1), self.sy(height)
        words = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(
            f'<rect class="bar {style}" x="{left:.2f}" y="{top:.1f}" width="{max(right - left - 0.6, 0.6):.2f}" '
            f'height="{max(self.sy.start - top, 0):.1f}">{words}</rect>'
        )

    def upright(self, x: float, words: str, style: str = "mark", row: int = 0) -> None:
        """A vertical line with a label at its top."""
        at = self.sx(x)
        self.parts.append(
            f'<line class="{style}" x1="{at:.1f}" x2="{at:.1f}" y1="{self.sy.start}" y2="{self.sy.end}"/>'
        )
        end = at > self.sx.end - 90
        self.text(at + (-5 if end else 5), self.sy.end + 10 + 14 * row, words, "note end" if end else "note")

    def level(self, y: float, words: str, style: str = "mark") -> None:
        """A horizontal line with a label at its right end."""
        at = self.sy(y)
        self.parts.append(
            f'<line class="{style}" x1="{self.sx.start}" x2="{self.sx.end}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        self.text(self.sx.end, at - 5, words, "note end")

    def svg(self) -> str:
        """The chart as an SVG element."""
        size = f'viewBox="0 0 {self.width} {self.height}"'
        return f'<svg {size} role="img" aria-label="{escape(self.label)}">{"".join(self.parts)}</svg>'


def bins(samples: Sequence[float], low: float, high: float, count: int) -> list[tuple[float, float, int]]:
    """Histogram over `count` logarithmic bins: (lower edge, upper edge, samples); the ends take what lies beyond."""
    ratio = (high / low) ** (1 / count)
    tally = [0] * count
    for sample in samples:
        place = math.log(max(sample, low) / low, ratio) if sample > 0 else 0
        tally[min(count - 1, max(0, int(place)))] += 1
    return [(low * ratio**i, low * ratio ** (i + 1), n) for i, n in enumerate(tally)]
