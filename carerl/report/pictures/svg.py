"""Turns matplotlib figures into SVG for a page and into files: the same bytes for the same data.

Figures are drawn in stand-in colours; :func:`to_svg` replaces each by a CSS variable, so that one picture
suits light and dark. Text stays text, in the page's font. A file of its own has the page's light colours.
"""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

SERIES = 10
INK, MUTED, LINE, CARD = "#000001", "#000002", "#000003", "#000004"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", CARD: "var(--card)"}
_VARIABLES |= {f"#0000{16 + i:02x}": f"var(--c{i + 1})" for i in range(SERIES)}

DASHED = (0, (3, 2))
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)))  # rows of one family, in turn

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

FILE_FONT = "DejaVu Sans, Liberation Sans, Arial, sans-serif"
DPI = 200  # of a PNG
ID_CHARACTERS = 80

STYLE: dict[str, Any] = {
    "svg.hashsalt": "carerl",
    "svg.fonttype": "none",
    "font.size": 10.0,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10.0,
    "axes.titlecolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # names are text: a $ in one is no formula
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9.0,
    "xtick.major.size": 0.0,  # the grid shows where a number belongs
    "ytick.major.size": 0.0,
    "ytick.labelsize": 9.0,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


def style() -> Any:
    """Returns the context in which figures are drawn and written."""
    return rc_context(STYLE)


class PowersOfTen(LogFormatter):
    """Labels a logarithmic axis, 10⁻³, by text that needs no formula."""

    def __call__(self, value: float, position: int | None = None) -> str:
        exponent = math.log10(value) if value > 0 else math.nan
        if not math.isclose(exponent, round(exponent), abs_tol=1e-9):
            return ""
        return f"10{str(round(exponent)).translate(_RAISED)}"


def colour(index: int) -> str:
    """Returns the stand-in of the page's series colour ``--c1`` … ``--c10``, repeating after ten."""
    return f"#0000{16 + index % SERIES:02x}"


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Returns the figure as an ``<svg>`` element of full width.

    ``name`` prefixes every id, since several figures share one page; a screen reader says ``description``. Both may be
    any text: see :func:`page_id`.
    """
    prefix = page_id(name)
    stream = io.StringIO()
    with style():
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]
    opening = (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(description, quote=True)}">'
    )
    text = text[text.index(">") + 1 :]  # not a template: a backslash in the description is one
    text = re.sub(r"<[^>]*>", lambda tag: _for_page(tag.group(), prefix), text)
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "\ufffd", (opening + text).strip())  # no XML has these


def _for_page(tag: str, prefix: str) -> str:
    """Gives a tag of matplotlib's the page's ids, font and colours. Text between tags stays as it is."""
    tag = tag.replace("xlink:href", "href")
    tag = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', tag)
    tag = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', tag)
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", tag)
    tag = re.sub(r'font-family: [^;"]+', "font-family: var(--sans)", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", tag)
    return re.sub("|".join(_VARIABLES), lambda match: _VARIABLES[match.group()], tag)


def page_id(name: str) -> str:
    """Turns a name into an id of a page and a file's name: ASCII letters, digits, ``-``, ``_`` and ``.`` only, without
    a dot in front. Any other name is cut to such characters and gets eight hex digits of its hash, so that two names
    stay two ids. Every id that comes from a name is made here.

    >>> page_id("reliability-math"), page_id('a"><img src=x>')
    ('reliability-math', 'a-img-src-x-ca5b5b92')
    """
    if len(name) <= ID_CHARACTERS and re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        return name
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[: ID_CHARACTERS - 9]
    return f"{readable}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}".lstrip("-")


@dataclass(frozen=True, slots=True)
class Picture:
    """Holds a drawn figure. ``name`` makes its ids and files; a screen reader says ``description``."""

    name: str
    description: str
    figure: Figure

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", page_id(self.name))

    def inline(self) -> str:
        """Returns SVG for a page, whose colours it takes."""
        return to_svg(self.figure, self.name, self.description)

    def svg(self) -> str:
        """Returns the text of an SVG file: literal colours on white, a font of its own, readable by word processors."""
        text = self.inline()
        for variable, value in palette().items():
            text = text.replace(f"var({variable})", value)
        width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]
        opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
        text = text.replace("<svg ", opening, 1).replace("var(--sans)", FILE_FONT)
        end = text.index(">") + 1
        return f'{text[:end]}\n<rect width="100%" height="100%" fill="{palette()["--card"]}"/>{text[end:]}\n'

    def png(self) -> bytes:
        """Returns a PNG file in the same colours. The figure keeps those colours, so make the SVG first."""
        stream = io.BytesIO()
        with style():
            self.figure.set_dpi(DPI)
            FigureCanvasAgg(self.figure).draw()  # ticks and their labels exist only now
            colours = {
                stand_in: palette()[v.removeprefix("var(").removesuffix(")")] for stand_in, v in _VARIABLES.items()
            }
            self.figure.set_facecolor(palette()["--card"])
            for artist in self.figure.findobj():
                _recolour(artist, colours)
            FigureCanvasAgg(self.figure).print_png(stream, metadata={"Software": None})
        return stream.getvalue()


@cache
def palette() -> dict[str, str]:
    """Returns the page's light colours by variable, from its style sheet."""
    css = (Path(__file__).parents[1] / "templates" / "style.css").read_text()
    light = css[: css.index("@media (prefers-color-scheme: dark)")]
    return dict(re.findall(r"(--[a-z0-9]+): (#[0-9a-f]{6})", light))


def _recolour(artist: Artist, colours: dict[str, str]) -> None:
    """Replaces stand-ins by real colours in every colour that an artist has; opacity stays."""
    for part in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
        get: Callable[[], Any] | None = getattr(artist, f"get_{part}", None)
        put: Callable[[Any], None] | None = getattr(artist, f"set_{part}", None)
        if get is None or put is None:
            continue
        found = get()
        several = hasattr(found, "ndim") and found.ndim == 2  # a collection: one colour an item
        try:
            values = [to_rgba(value) for value in (found if several else [found])]
        except ValueError:  # such as "none" or "auto"
            continue
        new = [to_rgba(colours[to_hex(value)], value[3]) if to_hex(value) in colours else value for value in values]
        if new != values:
            put(new if several else new[0])
