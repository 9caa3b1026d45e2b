r"""Spellings taken away before an answer is read: other alphabets' signs, fonts and colours, labels in front, ends.

String tables and substitutions only; :mod:`~carerl.tasks.grading.normal_form` says in which order they are used.
"""

from __future__ import annotations

import re

_A = re.ASCII

_GREEK = "alpha beta gamma delta theta lambda mu pi rho sigma phi omega"
_CHARACTERS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/",
    "∕": "/", "⁄": "/", "√": r"\sqrt ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ",
    "≠": r"\ne ", "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "°": r"^\circ ",
    "º": r"^\circ ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "∠": r"\angle ", "△": r"\triangle ", "’": "'", "′": "'",
    "″": '"', "”": '"', "“": '"', "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u3000": " ", "¢": r"\text{ cents}",
    "。": ".", "、": ",", "…": "...",
    **dict(zip("αβγδθλμπρσφω", (rf"\{name} " for name in _GREEK.split()), strict=True)),
    # full-width forms of ASCII, as Chinese and Japanese texts have them
    **{chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)},
    # without width, and marks of writing direction
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2061\u2062\u2063", ""),
}  # fmt: skip
_TRANSLATION = str.maketrans(_CHARACTERS)
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SCRIPTS = re.compile("([" + "".join(_RAISED) + "]+)|([" + "".join(_LOWERED) + "]+)")
_VULGAR_PARTS = "12 13 23 14 34 15 25 35 45 16 56 18 38 58 78"
_VULGAR = dict(zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", _VULGAR_PARTS.split(), strict=True))
_VULGAR_SIGN = re.compile("[" + "".join(_VULGAR) + "]")
_FOREIGN_MONEY = re.compile(r"([€£¥])\s*(\d[\d.,]*)|(\d[\d.,]*)\s*(?:\\text\{\s*)?([€£¥])\s*\}?")
_MONEY = {"€": "euros", "£": "gbp", "¥": "yen"}


def ascii_signs(text: str) -> str:
    """Signs of other alphabets as LaTeX or ASCII. Digits of other scripts but the full-width ones stay what they are.

    >>> ascii_signs("x⁴ ≤ ５½")
    'x^{4} \\\\le  5\\\\frac{1}{2}'
    """
    if text.isascii():
        return text
    text = _FOREIGN_MONEY.sub(lambda m: rf"{m[2] or m[3]}\text{{ {_MONEY[m[1] or m[4]]}}}", text)
    text = _SCRIPTS.sub(
        lambda m: (
            "^{" + "".join(_RAISED[c] for c in m[1]) + "}" if m[1] else "_{" + "".join(_LOWERED[c] for c in m[2]) + "}"
        ),
        text,
    )
    text = _VULGAR_SIGN.sub(lambda m: r"\frac{{{}}}{{{}}}".format(*_VULGAR[m[0]]), text)
    return text.translate(_TRANSLATION)


_SUBSTITUTIONS = (
    (re.compile(r"\\(?:leq|leqslant)(?![a-zA-Z])|<="), r"\\le "),
    (re.compile(r"\\(?:geq|geqslant)(?![a-zA-Z])|>="), r"\\ge "),
    (re.compile(r"\\[lcd]?dots(?:[cbmio])?(?![a-zA-Z])"), r"\\ldots "),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\neq(?![a-zA-Z])|\\not\s*=|!="), r"\\ne "),
    (re.compile(r"\\lbrace(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"\\(?:lvert|rvert|vert)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\lbrack(?![a-zA-Z])"), "["),
    (re.compile(r"\\rbrack(?![a-zA-Z])"), "]"),
    (re.compile(r"\*\*(?=[-\d({])"), "^"),
    (re.compile(r"\\(?:var|empty)nothing(?![a-zA-Z])"), r"\\emptyset "),
    (re.compile(r"\\(?:mathbb\s*R|mathbf\s*\{R\}|R|reals|Reals)(?![a-zA-Z{])"), r"\\mathbb{R}"),
    (re.compile(r"\\bigcup(?![a-zA-Z])"), r"\\cup "),
    (re.compile(r"(?<=[)\]])\s*(?:\\text\s*\{\s*U\s*\}|U)\s*(?=[(\[\\])"), r"\\cup "),
    (re.compile(r"(?<=[(\[,\s-])(?:inf|infty|infinity|oo)(?=\s*[,)\]])"), r"\\infty "),
    (re.compile(r"\\\\\s*\[[\d.]+\s*(?:pt|em|ex|mm|cm)\]"), r"\\\\"),  # extra space between rows
    (re.compile(r"(?<!\\)\{\s*(\w+)\s*\\choose\s*(\w+)\s*\}|^(\w+)\s*\\choose\s*(\w+)$"), r"\\binom{\1\3}{\2\4}"),
    (re.compile(r"(?<!\\)\{(\d{1,3}(?:,\d{3})+)\}", _A), lambda m: "{" + m[1].replace(",", "") + "}"),
    (re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", _A), r"\\times "),
    (re.compile(r"(\.\d*)\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?", _A), r"\1\\overline{\2\3\4}"),
    (re.compile(r"(\.\d*)\\(?:bar|dot|overline)\s*(?:\{(\d+)\}|(\d))", _A), r"\1\\overline{\2\3}"),
    (re.compile(r"\\mathrm\s*\{([eid])\}"), r" \1 "),
    (re.compile(r"^\s*(\d+)\s*(?:\\text\s*\{\s*to\s*\}|to)\s*(\d+)\s*$", _A), r"\1:\2"),
    (re.compile(r"^\s*\(\s*(\w+)\s*\)\s*_"), r"\1_"),
    (re.compile(r"_\{\s*\((\w+)\)\s*\}"), r"_{\1}"),
    (re.compile(r"(?<=\d)\s*(?:''|\")\s*$"), r"\\text{ inches}"),
    (re.compile(r"^\s*(?:USD|US\s*\\?\$)\s*(?=\d)"), r"\\$"),
)
_STYLES = (
    (re.compile(r"\{\s*\\(?:rm|sf|it)\s+([a-zA-Z][a-zA-Z /]*)\}|\\rm\s*\{([a-zA-Z][a-zA-Z /]*)\}"), r"\\text{ \1\2}"),
    (re.compile(r"\\color\s*\{[^{}]*\}"), " "),
    (re.compile(r"\\(?:textcolor|colorbox)\s*\{[^{}]*\}\s*(?=\{)"), " "),
    (re.compile(r"\\(?:bf|rm|it|sf|tt|bfseries|itshape|tiny|small|normalsize|large|Large|LARGE|huge"
                r"|Huge)(?![a-zA-Z])"), ""),
    (re.compile(r"\\text\s*\{\s*\\?\$\s*\}"), r"\\$"),
    (re.compile(r"(\\(?:text|mathrm)\s*\{[a-zA-Z. ]*)\^\{?([23])\}?\s*\}"), r"\1}^{\2}"),
    (re.compile(r"\\(?:tag|label)\*?\s*\{[^{}]*\}"), ""),
    (re.compile(r"\(\s*(\\(?:text|mathrm)\s*\{[a-zA-Z ]+\}(?:\^\{?[23]\}?)?)\s*\)\s*$"), r"\1"),
    (re.compile(r"(?:\\\\|\\q?quad(?![a-zA-Z])|\\(?:blacksquare|square|qed)(?![a-zA-Z])|\\,|\\;)\s*$"), ""),
)  # fmt: skip


def plain_notation(text: str) -> str:
    """One notation of several that mean the same, without fonts, colours and tags."""
    for pattern, written in _STYLES if "\\" in text else ():
        text = pattern.sub(written, text)
    for pattern, replacement in _SUBSTITUTIONS:
        text = pattern.sub(replacement, text)
    return text


_WRAPPER = re.compile(
    r"\\(?P<words>text|textrm|textbf|textit|textnormal|textsf|texttt|mbox|hbox|emph|mathrm|text\w\w)?"
    r"(?P<math>mathbf|mathit|mathsf|mathtt|boldsymbol|bm|underline|boxed|fbox|ensuremath|underbrace|Large|large)?\s*\{"
)
_READABLE_TEXT = re.compile(r"\s*(?:[-+]?\s*\\?[$€£]?\s*[-+]?\.?\d|\$|\\\(|[a-zA-Z]\s*=)")


def unwrapped(text: str, closing: int) -> str:
    """Without the macro around the whole of it, whose brace closes at ``closing`` (of words only where they hold
    mathematics: ``\\text{5 dollars}``, not ``\\text{Monday}``)."""
    match = _WRAPPER.match(text)
    if match is None or not (match["words"] or match["math"]) or closing != len(text) - 1:
        return text
    inner = text[match.end() : -1].strip()
    if match["words"]:
        return inner if _READABLE_TEXT.match(inner) else text
    return text if re.fullmatch(r"[a-zA-Z ]*", inner) else inner


def opening_brace(text: str) -> int:
    """Index of the brace of a wrapper at the start, -1 if there is none."""
    match = _WRAPPER.match(text)
    return match.end() - 1 if match and (match["words"] or match["math"]) else -1


_LEAD = re.compile(
    r"^(?:\\text\s*\{)?\s*(?:(?:so|thus|hence|therefore),?\s+)?(?:"
    r"(?:the )?(?:final |correct )?answers?(?: is| are)?\s*:?"
    r"|(?:the |an |a )?(?:point|ordered (?:pair|triple)|pair|triple|vector|interval|matrix|equation|line|ratio|fraction"
    r"|number|value|set|function|polynomial|expression|integer)s?"
    r"|(?:total|result|solutions?|sum|product|area|volume|perimeter|probability|ratio)\s*:"
    r"|approximately|about|exactly|equal to|simply|only|just)(?:\s*\}\s*|\s+(?=[-\d(\\\[$]))",
    re.IGNORECASE,
)
_OPTION = re.compile(r"^(?:\\text\s*\{\s*\(?([A-Z])[).]\s*[).]?\s*\}|\\text\s*\{\s*\(([A-Z])\)\s*"
                     r"|\(([A-Z])\))[\s~]*(?:\\ |\\[,;:!]|\\quad)*\s*"
                     r"(?=[-\d.$(]|\\(?!text|in|cup|cap|cdot|times|to|or|and|l?or|wedge|vee|circ))")  # fmt: skip


def without_lead(text: str) -> str:
    """Without a leading "the answer is", "the point" and their like, in a text macro or bare."""
    return _LEAD.sub(lambda m: "" if "{" not in m[0] or "}" in m[0] else r"\text{", text, count=1)


def option_label(text: str) -> tuple[str, str]:
    r"""The label of an option before its text, and the text: ``\textbf{(A)}\ 5``; ("", text) where there is none."""
    match = _OPTION.match(text)
    if match is None or not text[match.end() :].strip():
        return "", text
    rest = text[match.end() :]
    if match[2] and not match[0].rstrip().endswith("}"):
        rest = rest.replace("}", "", 1) if rest.count("}") > rest.count("{") else rest
    return (match[1] or match[2] or match[3]), rest.strip()
