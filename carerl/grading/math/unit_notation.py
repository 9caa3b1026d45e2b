r"""Unifies notations of units, degrees and money that LaTeX has beside the plain ones: ``18 \text{ [cm]}``,
``90^\text{o}``, ``\textsuperscript{2}``, ``\mathdollar``, ``1.5 \mu m``, ``\SI{18}{cm}``, ``5 p.m.``. String work only.
"""

from __future__ import annotations

import re

from .notation import rules, substituted
from .units import unit_of

_TEXT = r"\\(?:text|textrm|mathrm|textnormal|mbox|rm)"
_SIGNS = rules(
    (r"dollar $", re.compile(r"\\(?:mathdollar|textdollar)(?![a-zA-Z])|(?<![a-zA-Z])\{\s*\\\$\s*\}"), r"\\$"),
    (r"\text", re.compile(r"\\text\s*\{\s*(?:US\s*\\?\$|USD)\s*\}(?=\s*\d)"), r"\\$"),
    (r"\pounds \textsterling \mathsterling", re.compile(r"\\(?:pounds|textsterling|mathsterling)(?![a-zA-Z])\s*"), "£"),
    (r"\texteuro \euro \EUR", re.compile(r"\\(?:texteuro|euro|EUR)(?![a-zA-Z])\s*"), "€"),
    (r"\yen \textyen", re.compile(r"\\(?:yen|textyen)(?![a-zA-Z])\s*"), "¥"),
    (r"\text", re.compile(r"\\text\{\s*([€£¥])\s*\}"), r"\1"),
    ("elsius", re.compile(r"\\(?:degreeCelsius|textcelsius|celsius)(?![a-zA-Z])"), r"^\\circ\\text{C}"),
    (r"\textdegree", re.compile(r"\\textdegree(?![a-zA-Z])\s*"), r"^\\circ "),
)
_WRITTEN = rules(
    ("{}", re.compile(r"(?<!\\)\{\}"), ""),
    (r"\textsuperscript $^", re.compile(r"\\textsuperscript\s*\{\s*(-?\d)\s*\}|\$\^\{?(-?\d)\}?\$"), r"^{\1\2}"),
    ("^", re.compile(rf"\^\s*\{{?{_TEXT}\s*\{{\s*(-?\d)\s*\}}\}}?"), r"^{\1}"),
    (
        "^",
        re.compile(
            rf"(?<=[\d}})])\s*\^\s*(?:o(?![a-zA-Z])|\{{\s*o\s*\}}|{_TEXT}\s*\{{\s*o\s*\}}"
            rf"|\{{\s*{_TEXT}\s*\{{\s*o\s*\}}\s*\}}|\{{\s*\\(?:rm|small|scriptstyle|mathrm)\s*(?:o|\\circ)\s*\}})"
        ),
        r"^\\circ ",
    ),
    (r"\circ", re.compile(r"\\text\{\s*\^\\circ\s*([CF])\s*\}"), r"^\\circ\\text{\1}"),
    (r"\circ", re.compile(r"\\text\{\s*\^\\circ\s*\}"), r"^\\circ "),
    ("[", re.compile(rf"{_TEXT}\s*\{{\s*\[\s*([a-zA-Z /^23]+)\]\s*\}}"), r"\\text{ \1}"),
    (
        "{-",
        re.compile(
            rf"{_TEXT}\s*\{{\s*([a-zA-Z]+)\s*\}}\s*(?:\\cdot|\\[,;: ])?\s*"
            rf"{_TEXT}\s*\{{\s*([a-zA-Z]+)\s*\}}\s*\^\s*\{{\s*-([123])\s*\}}$"
        ),
        lambda m: _per(m[1], m[2], m[3]),
    ),
    (
        "{-",
        re.compile(rf"{_TEXT}\s*\{{\s*([a-zA-Z]+)(?:\s|\\[,;: ])+([a-zA-Z]+)\s*\}}\s*\^\s*\{{\s*-([123])\s*\}}$"),
        lambda m: _per(m[1], m[2], m[3]),
    ),
)
_MICRO = re.compile(
    rf"(?:\\mu|\\micro)(?![a-zA-Z])\s*(?:{_TEXT}\s*\{{\s*(?P<inner>[a-zA-Z]+)\s*\}}|(?P<bare>[a-zA-Z]))$"
    rf"|{_TEXT}\s*\{{\s*(?:\\mu|\\micro)\s+?(?P<within>[a-zA-Z]+)\s*\}}$"
)
_MICRO_UNITS = {"m": "micrometers", "g": "micrograms", "s": "microseconds", "L": "microliters", "l": "microliters",
                "A": "microamperes", "V": "microvolts", "F": "microfarads", "C": "microcoulombs",
                "W": "microwatts"}  # fmt: skip
_OHMS = re.compile(rf"(?<=[\d\s,;])(?:{_TEXT}\s*\{{\s*k\s*\}}|k)?\s*(?:\\Omega|{_TEXT}\s*\{{\s*\\Omega\s*\}}|\\ohm)$")
_SI = re.compile(r"\\(?:SI|qty)\s*(?:\[[^\]]*\]\s*)?\{([^{}]*)\}\s*\{([^{}]*)\}|\\unit\s*\[([^\]]*)\]\s*\{([^{}]*)\}")
_SI_UNIT = re.compile(r"\\(?:si|unit)\s*\{([^{}]*)\}")
_PREFIXED = re.compile(r"\\(nano|micro|milli|centi|deci|kilo|mega|giga)\s*\\?(?=[a-z])")
_BRACKETED = re.compile(
    rf"(?<=[\d}})])(?:\s|~|\\[ ,;:!])*\[\s*(?:{_TEXT}\s*\{{\s*)?([a-zA-Z][a-zA-Z /]*?)"
    r"(?:\^\{?([23])\}?)?\s*\}?\s*\]$"
)
_HOUR = re.compile(r"^(\d{1,2})(\\text\{ ?[ap]m\})$", re.ASCII)


def money_signs(text: str) -> str:
    r"""Converts macros for money and degrees to signs: ``\mathdollar`` to ``\$``, ``\pounds`` to ``£``."""
    return substituted(text, _SIGNS)


def plain_units(text: str) -> str:
    r"""Rewrites a unit behind a number to one notation: ``18 [cm]``, ``\SI{18}{cm}``, ``90^{o}``, ``1.5 \mu m``."""
    if text.endswith("]") and (bracketed := _BRACKETED.search(text)) and unit_of(bracketed[1]) is not None:
        power = f"^{{{bracketed[2]}}}" if bracketed[2] else ""
        text = rf"{text[: bracketed.start()]}\text{{ {bracketed[1]}}}{power}"
    if "\\" not in text and "^" not in text:
        return text
    text = substituted(text, _WRITTEN)
    if r"\SI" in text or r"\qty" in text or r"\unit" in text or r"\si" in text:
        text = _SI.sub(lambda m: rf"{m[1] or m[3]}\text{{ {_spelled(m[2] or m[4])}}}", text)
        text = _SI_UNIT.sub(lambda m: rf"\text{{ {_spelled(m[1])}}}", text)
    if r"\mu" in text or r"\micro" in text:
        text = _MICRO.sub(lambda m: _micro(m, text), text)
    if r"\Omega" in text or r"\ohm" in text:
        text = _OHMS.sub(lambda m: r"\text{ kiloohms}" if "k" in m[0] else r"\text{ ohms}", text)
    return text


def full_hour(text: str) -> str:
    r"""Rewrites ``5 p.m.`` as ``5:00 p.m.`` in a normal form."""
    return _HOUR.sub(r"\1:00\2", text)


def _per(above: str, below: str, power: str) -> str:
    return rf"\text{{{above}/{below}}}" + (f"^{{{power}}}" if power != "1" else "")


def _micro(match: re.Match[str], text: str) -> str:
    r"""Returns a unit if a number stands before it: ``\mu m`` alone is a product."""
    name = match["inner"] or match["bare"] or match["within"]
    before = re.sub(r"(?:\s|~|\\[ ,;:!])+$", "", text[: match.start()])
    known = name in _MICRO_UNITS and before[-1:].isdigit()
    return rf"\text{{ {_MICRO_UNITS[name]}}}" if known else match[0]


def _spelled(unit: str) -> str:
    r"""Writes the macros of the package siunitx as words: ``\centi\metre\squared`` is ``centimetre squared``."""
    unit = _PREFIXED.sub(r" \1", unit)
    return " ".join(re.sub(r"\\([a-z]+)", r" \1", unit).split())
