"""The frame around the report's sections: one HTML file with its style inside, light and dark, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("style.css")


def page(title: str, parts: Sequence[str]) -> str:
    """The whole file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{STYLE.read_text()}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def hero(eyebrow: str, title: str, lead: str, picture: str = "", caption: str = "") -> str:
    """The top of the page; `picture` is an image element or empty."""
    words = f'<div><div class="eyebrow">{escape(eyebrow)}</div><h1>{escape(title)}</h1><p class="lead">{lead}</p></div>'
    figure = f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>" if picture else ""
    return f'<header class="hero{" pair" if figure else ""}">{words}{figure}</header>'


def tile(value: str, unit: str, words: str) -> str:
    """One figure in large type."""
    return f'<div class="tile"><b>{escape(value)}<small>{escape(unit)}</small></b><span>{escape(words)}</span></div>'


def tiles(items: Sequence[str]) -> str:
    """A band of figures; nothing when there are none."""
    return f'<div class="tiles">{"".join(items)}</div>' if items else ""


def card(title: str, words: str, content: str, wide: bool = False) -> str:
    """A section with a heading, a sentence and its content."""
    style = "card wide" if wide else "card"
    return f'<section class="{style}"><h2>{escape(title)}</h2><p>{escape(words)}</p>{content}</section>'


def legend(*items: tuple[str, str]) -> str:
    """Colour dots with their words: (style, words)."""
    keys = "".join(f'<span><i class="{style}"></i>{escape(words)}</span>' for style, words in items)
    return f'<div class="legend">{keys}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], style: str = "") -> str:
    """A table; an empty head leaves the header row out."""
    top = "<thead><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr></thead>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{style}">{top}<tbody>{body}</tbody></table>'


def notice(words: str) -> str:
    """A remark above the sections."""
    return f'<div class="notice">{escape(words)}</div>'
