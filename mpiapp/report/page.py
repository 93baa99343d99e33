"""report.html: one page that shows a job, with every picture inside it and no script."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from mpiapp.io.atomic import atomic_file

TEMPLATE = "page.html.jinja"
_ON_PAGE = 0.65  # CSS pixels for a pixel of a picture
PAGE, PICTURES = "report.html", "report_files"


@dataclass(frozen=True)
class Figure:
    """A picture with what it shows; its numbers lie beside it as CSV. `wide` ones scroll on small screens."""

    path: Path
    caption: str
    wide: bool = False

    @property
    def data(self) -> str:
        """The PNG as text."""
        return base64.b64encode(self.path.read_bytes()).decode("ascii")

    @property
    def width(self) -> int:
        """Width on the page in CSS pixels at most: letters of all pictures are then about as large as the text."""
        return round(_ON_PAGE * int.from_bytes(self.path.read_bytes()[16:20], "big"))

    @property
    def numbers(self) -> str:
        """Name of the table relative to the page, empty without one."""
        table = self.path.with_suffix(".csv")
        if not table.is_file():
            return ""
        return f"{table.parent.name}/{table.name}" if table.parent.name == PICTURES else table.name


@dataclass(frozen=True)
class Table:
    """A table of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Section:
    """One part of the page.

    Attributes
    ----------
    facts : name and value, shown as tiles
    warnings, notes : paragraphs
    code : lines shown as they are, such as the command
    """

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    code: list[str] = field(default_factory=list)


def write_page(path: Path, title: str, status: str, sections: Sequence[Section]) -> None:
    """Render and write the page; all text is escaped, the file is replaced at once.

    Parameters
    ----------
    title, status : heading of the page and the line below it
    """
    import jinja2

    import mpiapp

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = (resources.files("mpiapp.report") / TEMPLATE).read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        title=title,
        status=status,
        sections=sections,
        version=mpiapp.__version__,
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")
