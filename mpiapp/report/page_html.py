"""The HTML of report.html, made of plain strings: to load a template engine takes longer than to write the page.

All text goes through `escape`; only `_section` and what it calls know tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpiapp.report.page import Figure, Section, Table

_WIDE_PX, _NARROW_PX = 900, 520  # pictures get no narrower on small screens, which scroll them


def page_html(title: str, status: str, sections: Sequence[Section], style: str, footer: str) -> str:
    """The whole page.

    Parameters
    ----------
    style : CSS
    footer : last line
    """
    numbered = list(enumerate(sections, start=1))
    links = [f'<a href="#part{number}">{escape(section.title)}</a>' for number, section in numbered]
    return _lines(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="'
            "default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{escape(title)}</h1>",
            f'<p class="status">{escape(status)}</p>',
            "<nav>",
            *links,
            "</nav>",
            "</header>",
            "<main>",
            *(_section(number, section) for number, section in numbered),
            "</main>",
            f"<footer>{escape(footer)}</footer>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)


def _section(number: int, section: Section) -> str:
    parts = [f'<section id="part{number}">', f"<h2>{escape(section.title)}</h2>"]
    parts += [f'<p class="warning">{escape(text)}</p>' for text in section.warnings]
    if section.facts:
        tiles = [
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in section.facts
        ]
        parts += ['<dl class="facts">', *tiles, "</dl>"]
    parts += [f"<p>{escape(text)}</p>" for text in section.notes]
    if section.figures:
        parts += ['<div class="figures">', *map(_figure, section.figures), "</div>"]
    parts += map(_table, section.tables)
    if section.code:
        parts.append(f"<pre>{_lines(map(escape, section.code))}\n</pre>")
    return _lines([*parts, "</section>"])


def _figure(figure: Figure) -> str:
    caption, width = escape(figure.caption), figure.width
    numbers = f' (<a href="{escape(figure.numbers)}">numbers</a>)' if figure.numbers else ""
    size = f"max-width: {width}px; min-width: min({width}px, {_WIDE_PX if figure.wide else _NARROW_PX}px)"
    return _lines(
        [
            '<figure class="wide">' if figure.wide else "<figure>",
            f'<div class="scroll"><img alt="{caption}" style="{size}" src="data:image/png;base64,{figure.data}"></div>',
            f'<figcaption><span class="hint">← scroll → </span>{caption}{numbers}</figcaption>',
            "</figure>",
        ]
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows]
    return _lines(
        [
            '<p class="hint">← scroll →</p>',
            '<div class="scroll">',
            "<table>",
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *(f"<tr>{row}</tr>" for row in rows),
            "</tbody>",
            "</table>",
            "</div>",
        ]
    )
