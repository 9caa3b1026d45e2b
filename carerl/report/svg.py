"""matplotlib figures as SVG for inlining: the same bytes for the same data, and colours left to the page.

Figures are drawn in stand-in colours; :func:`to_svg` replaces each by a CSS variable, so that one picture
suits light and dark. Text stays text, in the page's font.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

SERIES = 10
INK, MUTED, LINE, CARD = "#000001", "#000002", "#000003", "#000004"
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", CARD: "var(--card)"}
_VARIABLES |= {f"#0000{16 + i:02x}": f"var(--c{i + 1})" for i in range(SERIES)}

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
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


def style() -> Any:
    """The context in which figures are drawn and written."""
    return rc_context(STYLE)


def colour(index: int) -> str:
    """The stand-in of the page's series colour ``--c1`` … ``--c10``, repeating after ten."""
    return f"#0000{16 + index % SERIES:02x}"


def to_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an ``<svg>`` element of full width.

    ``name`` prefixes every id, since several figures share one page; ``description`` is what a screen
    reader says.
    """
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
    text = re.sub(r"<svg[^>]*>", opening, text, count=1)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'font-family: [^;"]+', "font-family: var(--sans)", text)
    text = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", text)
    return re.sub("|".join(_VARIABLES), lambda match: _VARIABLES[match.group()], text).strip()
