r"""Removes or unifies spellings before an answer is read: fonts and colours, macros with one meaning, labels in front,
ends.

Tables of substitutions only; :mod:`~carerl.grading.math.normal_form` says in which order they are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_A = re.ASCII
Replacement = str | Callable[[re.Match[str]], str]
Rule = tuple[tuple[str, ...], re.Pattern[str], Replacement]


def rules(*table: tuple[str, re.Pattern[str], Replacement]) -> tuple[Rule, ...]:
    """Makes a table of substitutions. The first word of each line lists, separated by spaces, pieces of which a text
    that the pattern matches holds at least one; an empty list allows any text."""
    return tuple((tuple(pieces.split()), pattern, written) for pieces, pattern, written in table)


def substituted(text: str, table: tuple[Rule, ...]) -> str:
    """Returns the text after all substitutions, in their order."""
    for pieces, pattern, written in table:
        for piece in pieces or ("",):
            if piece in text:
                text = pattern.sub(written, text)
                break
    return text


_SUBSTITUTIONS = rules(
    (r"\leq <=", re.compile(r"\\(?:leq|leqslant)(?![a-zA-Z])|<="), r"\\le "),
    (r"\geq >=", re.compile(r"\\(?:geq|geqslant)(?![a-zA-Z])|>="), r"\\ge "),
    ("dots", re.compile(r"\\[lcd]?dots(?:[cbmio])?(?![a-zA-Z])"), r"\\ldots "),
    (r"\lt", re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (r"\gt", re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (r"\neq \not !=", re.compile(r"\\neq(?![a-zA-Z])|\\not\s*=|!="), r"\\ne "),
    (r"\lbrace", re.compile(r"\\lbrace(?![a-zA-Z])"), r"\\{"),
    (r"\rbrace", re.compile(r"\\rbrace(?![a-zA-Z])"), r"\\}"),
    (r"\lvert \rvert \vert", re.compile(r"\\(?:lvert|rvert|vert)(?![a-zA-Z])"), "|"),
    (r"\lbrack", re.compile(r"\\lbrack(?![a-zA-Z])"), "["),
    (r"\rbrack", re.compile(r"\\rbrack(?![a-zA-Z])"), "]"),
    ("**", re.compile(r"\*\*(?=[-\d({])"), "^"),
    ("nothing", re.compile(r"\\(?:var|empty)nothing(?![a-zA-Z])"), r"\\emptyset "),
    (
        r"\mathbb \mathbf \R \reals \Reals \Bbb",
        re.compile(r"\\(?:mathbb\s*R|(?:mathbf|Bbb)\s*\{R\}|Bbb\s*R|R|reals|Reals)(?![a-zA-Z{])"),
        r"\\mathbb{R}",
    ),
    (r"\bigcup", re.compile(r"\\bigcup(?![a-zA-Z])"), r"\\cup "),
    ("U", re.compile(r"(?<=[)\]])\s*(?:\\text\s*\{\s*U\s*\}|U)\s*(?=[(\[\\])"), r"\\cup "),
    ("inf oo", re.compile(r"(?<=[(\[,\s-])(?:inf|infty|infinity|oo)(?=\s*[,)\]])"), r"\\infty "),
    ("pt] em] ex] mm] cm]", re.compile(r"\\\\\s*\[[\d.]+\s*(?:pt|em|ex|mm|cm)\]"), r"\\\\"),  # extra space between rows
    (
        r"\choose",
        re.compile(r"(?<!\\)\{\s*(\w+)\s*\\choose\s*(\w+)\s*\}|^(\w+)\s*\\choose\s*(\w+)$"),
        r"\\binom{\1\3}{\2\4}",
    ),
    ("{", re.compile(r"(?<!\\)\{(\d{1,3}(?:,\d{3})+)\}", _A), lambda m: "{" + m[1].replace(",", "") + "}"),
    ("10", re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", _A), r"\\times "),
    (r"\dot", re.compile(r"(\.\d*)\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?", _A), r"\1\\overline{\2\3\4}"),
    (
        r"\bar \dot \overline",
        re.compile(r"(\.\d*)\\(?:bar|dot|overline)\s*(?:\{(\d+)\}|(\d))", _A),
        r"\1\\overline{\2\3}",
    ),
    (r"\mathrm", re.compile(r"\\mathrm\s*\{([eid])\}"), r" \1 "),
    (
        r"\mathcal \mathscr \mathfrak \pmb",
        re.compile(r"\\(?:mathcal|mathscr|mathfrak|pmb)\s*(?:\{\s*([a-zA-Z])\s*\}|(?<=\s)([a-zA-Z])(?![a-zA-Z]))"),
        r" \1\2",
    ),
    (
        r"\mathbf \Z \N \Q \Bbb",
        re.compile(r"\\(?:(?:mathbf|Bbb)\s*\{([ZQ])\}|([ZNQ])(?![a-zA-Z{]))"),
        r"\\mathbb{\1\2}",
    ),
    (r"\var", re.compile(r"\\var(epsilon|phi|theta)(?![a-zA-Z])"), r"\\\1 "),
    (r"\lg", re.compile(r"\\lg(?![a-zA-Z])"), r"\\log_{10} "),
    ("C", re.compile(r"(?:\{\})?[_^]\{?(\d{1,4})\}?\s*C\s*_\{?(\d{1,4})\}?(?!\d)", _A), r"\\binom{\1}{\2}"),
    ("const", re.compile(r"\+\s*(?:\\text\s*\{\s*const(?:ant)?\.?\s*\}|const(?:ant)?\.?)\s*$"), "+ C"),
    ("to", re.compile(r"^\s*(\d+)\s*(?:\\text\s*\{\s*to\s*\}|to)\s*(\d+)\s*$", _A), r"\1:\2"),
    ("_", re.compile(r"^\s*\(\s*(\w+)\s*\)\s*_"), r"\1_"),
    ("_", re.compile(r"_\{\s*\((\w+)\)\s*\}"), r"_{\1}"),
    ("'' \"", re.compile(r"(?<=\d)\s*(?:''|\")\s*$"), r"\\text{ inches}"),
    ("US", re.compile(r"^\s*(?:USD|US\s*\\?\$)\s*(?=\d)"), r"\\$"),
)
_STYLES = rules(
    (
        r"\rm \sf \it",
        re.compile(r"\{\s*\\(?:rm|sf|it)\s+([a-zA-Z][a-zA-Z /]*)\}|\\rm\s*\{([a-zA-Z][a-zA-Z /]*)\}"),
        r"\\text{ \1\2}",
    ),
    (r"\color", re.compile(r"\\color\s*\{[^{}]*\}"), " "),
    (r"\textcolor \colorbox", re.compile(r"\\(?:textcolor|colorbox)\s*\{[^{}]*\}\s*(?=\{)"), " "),
    (
        r"\bf \rm \it \sf \tt \tiny \small \normalsize \l \L \h \H",
        re.compile(
            r"\\(?:bf|rm|it|sf|tt|bfseries|itshape|tiny|small|normalsize|large|Large|LARGE|huge"
            r"|Huge)(?![a-zA-Z])"
        ),
        "",
    ),
    ("$", re.compile(r"\\text\s*\{\s*\\?\$\s*\}"), r"\\$"),
    ("^", re.compile(r"(\\(?:text|mathrm)\s*\{[a-zA-Z. ]*)\^\{?([23])\}?\s*\}"), r"\1}^{\2}"),
    (r"\tag \label", re.compile(r"\\(?:tag|label)\*?\s*\{[^{}]*\}"), ""),
    (")", re.compile(r"\(\s*(\\(?:text|mathrm)\s*\{[a-zA-Z ]+\}(?:\^\{?[23]\}?)?)\s*\)\s*$"), r"\1"),
    ("", re.compile(r"(?:\\\\|\\q?quad(?![a-zA-Z])|\\(?:blacksquare|square|qed)(?![a-zA-Z])|\\,|\\;)\s*$"), ""),
)


def plain_notation(text: str) -> str:
    """Rewrites notations that mean the same to one of them, and removes fonts, colours and tags."""
    if "\\" in text:
        text = substituted(text, _STYLES)
    return substituted(text, _SUBSTITUTIONS)


_WRAPPER = re.compile(
    r"\\(?P<words>text|textrm|textbf|textit|textnormal|textsf|texttt|mbox|hbox|emph|mathrm|text\w\w)?"
    r"(?P<math>mathbf|mathit|mathsf|mathtt|mathcal|mathnormal|mathop|mathord|mathbin|boldsymbol|bm|pmb|smash|uline"
    r"|underline|boxed|fbox|framebox|ensuremath|underbrace|Large|large)?\s*\{"
)
_UNDER = re.compile(r"_(?:\{(?:[^{}]|\{[^{}]*\})*\}|\w)")  # what stands below a brace says what it is
_READABLE_TEXT = re.compile(
    r"\s*[\"'`“‘]*(?:[-+]?\s*\\?[$€£]?\s*[-+]?\.?\d|\\[a-zA-Z]+\s*\{?\s*-?\d|\$|\\\(|[a-zA-Z]\s*=)"
)


def unwrapped(text: str, closing: int) -> str:
    r"""Removes the macro around the whole text, whose brace closes at ``closing``. A macro for words is removed only
    where they hold mathematics: ``\text{5 dollars}``, not ``\text{Monday}``."""
    match = _WRAPPER.match(text)
    if match is None or not (match["words"] or match["math"]):
        return text
    whole = closing == len(text) - 1 or (match["math"] == "underbrace" and _UNDER.fullmatch(text, closing + 1))
    if not whole:
        return text
    inner = text[match.end() : closing].strip()
    if match["words"]:
        return inner if _READABLE_TEXT.match(inner) else text
    return text if re.fullmatch(r"[a-zA-Z ]*", inner) and match["math"] not in ("pmb", "bm", "smash") else inner


def opening_brace(text: str) -> int:
    """Returns the index of the brace of a wrapper at the start; -1 if there is no wrapper."""
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
    """Removes a leading "the answer is", "the point" and the like, in a text macro or bare."""
    return _LEAD.sub(lambda m: "" if "{" not in m[0] or "}" in m[0] else r"\text{", text, count=1)


def option_label(text: str) -> tuple[str, str]:
    r"""Splits off the label of an option before its text: ``\textbf{(A)}\ 5``. Returns the label and the text; ("",
    text) if there is no label."""
    match = _OPTION.match(text)
    if match is None or not text[match.end() :].strip():
        return "", text
    rest = text[match.end() :]
    if match[2] and not match[0].rstrip().endswith("}"):
        rest = rest.replace("}", "", 1) if rest.count("}") > rest.count("{") else rest
    return (match[1] or match[2] or match[3]), rest.strip()
