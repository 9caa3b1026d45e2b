r"""Removes what stands around an answer and adds nothing to it: display environments, quotation marks, arrows and
ticks, space, a reason or a comment behind it. String work only.

A comment is dropped only where it cannot make another answer: ``42 (exact)``, not ``42 (or 43)`` or ``42 (rejected)``.
"""

from __future__ import annotations

import re

from .characters import without_special_tokens
from .units import unit_of
from .words import changes_a_value, number_in_words, retracts

_SPACES = r"(?:\s|~|\\[ ,;:!>]|\\q?quad(?![a-zA-Z]))"
_INVISIBLE = re.compile(
    r"\\(?:rule\s*\{[^{}]*\}\s*\{[^{}]*\}|[hv]space\*?\s*\{[^{}]*\}|m?kern\s*-?[\d.]+\s*[a-z]{2}"
    r"|(?:raisebox|scalebox|parbox)\s*\{[^{}]*\}(?=\s*\{)|fcolorbox\s*\{[^{}]*\}\s*\{[^{}]*\}(?=\s*\{)"
    r"|(?:strut|mathstrut|null|relax|noindent|centering|hfill|scriptstyle|scriptscriptstyle|newline|par|raggedright|raggedleft|(?:small|med|big)skip|nonumber|notag|nobreak"
    r"|allowbreak)(?![a-zA-Z]))"
)
_HTML = re.compile(
    r"<(b|strong|i|em|u|mark|span|center|font|p|div|code)(?:\s+[a-zA-Z-]+=[^<>]{0,80})?>(.*?)</\1>", re.S
)
_QUOTED = re.compile(
    r"""^(?:"([^"]+)"|'([^']+)'|``([^`']+)''|`([^`']+)'|“([^“”]+)”|‘([^‘’]+)’|«([^«»]+)»|_{1,2}([^_]+?)_{1,2})$"""
)
_LEADING = re.compile(
    rf"^(?:{_SPACES}|&|:=|(?:\\?#){{2,}}|[⇒→∴➔➜➡⟹⟶✓✔✅☑★☆•►▶]|\\(?:therefore|implies|(?:Long|long)?(?:(?:L|l)eft)?(?:R|r)ightarrow|to|iff"
    r"|leadsto|checkmark|bigstar|star|bullet|blacktriangleright|triangleright)(?![a-zA-Z])"
    r"|\\text\s*\{\s*(?:so|thus|hence|therefore),?\s*\})+",
    re.IGNORECASE,
)
_TRAILING = re.compile(
    rf"(?:{_SPACES}|(?<!\\)\\$|\\\\|[✓✔✅☑■□∎★🎉\ufe0f]|(?:\\?#){{2,}}|\\(?:checkmark|blacksquare|square|Box|qed|qedsymbol"
    r"|bigstar|star|blacklozenge|lozenge)(?![a-zA-Z])"
    r"|\\text\s*\{\s*(?:\\checkmark|[✓✔✅☑])\s*\})+$"
)
_REASON = re.compile(
    rf"(?<=[\w)}}\]%$.])(?:\s*[,;])?{_SPACES}*(?:\\(?:text|textrm|mbox)\s*\{{\s*[,;(]*\s*|[,;]?\s*\(\s*|(?<=\s))"
    r"(?:since|because|as (?:required|desired|claimed|wanted|above))\b.*$",
    re.IGNORECASE | re.DOTALL,
)
_COMMENT = re.compile(
    rf"(?<=[\d)}}]){_SPACES}*"
    rf"(?:(?:{_SPACES}\(|\\(?:text|textrm|mbox)\s*\{{\s*\()\s*(?P<bare>[a-zA-Z][a-zA-Z ,'-]*)\)\}}?"
    r"|\(\s*\\(?:text|textrm|mbox)\s*\{(?P<text>[a-zA-Z ,'-]*)\}\s*\))$"
)
_RESTATED = re.compile(r"^(?:\\(?:text|textrm|mbox)\s*\{)?([^(){}]{1,60}?)\s*\(([^(){}]{1,60})\)\}?$")
_DISPLAYED = (
    r"(?:equation|align|aligned|alignat|alignedat|gather|gathered|split|multline|flalign|eqnarray|displaymath|math"
    r"|center|flushleft|flushright)"
)
ENVIRONMENT = (
    rf"\\begin\{{(?P<display>{_DISPLAYED}\*?)\}}(?P<displayed>(?:(?!\\end\{{(?P=display)\}}).){{1,1000}})"
    r"\\end\{(?P=display)\}"
)
_ENVIRONMENT = re.compile(rf"^\s*(?:\\displaystyle\s*)?{ENVIRONMENT}\s*$", re.DOTALL)
_ONE_CELL = re.compile(
    r"^\s*\\begin\{(matrix|array|smallmatrix|tabular|cases)\}(?:\s*\{[clr|]*\})?([^&\\]*(?:\\(?![\\a-z]|begin|end)[^&\\]*"
    r"|\\(?!begin|end)[a-z][^&\\]*)*)\\end\{\1\}\s*$"
)
_INNER = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
_CONTINUES = re.compile(r"\s*(?:=|<|>|\\(?:le|ge|leq|geq|approx|equiv)(?![a-zA-Z]))")
_BEFORE_COMMENTS = ("(", "since", "because", "as ")


def without_ornaments(text: str) -> str:
    """Returns the answer without what stands around it and adds nothing.

    >>> [without_ornaments(t) for t in (r"\\therefore 42", '"42"', "42 (exact)", "42 (or 43)", "forty-two (42)")]
    ['42', '42', '42', '42 (or 43)', '42']
    """
    text = without_quotes(text)
    if text.endswith(">"):
        text = without_special_tokens(text)
    if "</" in text:
        text = _HTML.sub(r"\2", text)
    if "\\" in text:
        text = _without_environment(_INVISIBLE.sub("", text)) if r"\begin" in text else _INVISIBLE.sub("", text)
    text = without_marks(text)
    if any(piece in text for piece in _BEFORE_COMMENTS):
        text = _without_comment(text)
    return text


def without_quotes(text: str) -> str:
    """Removes quotation marks around the whole text."""
    if text[:1] in "\"'`“‘«_" and (quoted := _QUOTED.match(text)):
        return next(part for part in quoted.groups() if part is not None).strip()
    return text


def without_marks(text: str) -> str:
    """Removes space, arrows and ticks at the ends."""
    if text[:1] in "\\&:#" or not text[:1].isascii():
        text = _LEADING.sub("", text)
    end = text[-1:]
    if not (end.isalnum() or end in ")].!") or (end.isalpha() and "\\" in text):
        text = _TRAILING.sub("", text)
    return text


def _without_comment(text: str) -> str:
    kept = _REASON.sub("", text, count=1)
    if kept != text and _balanced(kept):
        text = kept
    if restated := _RESTATED.match(text):
        one, other = restated[1].strip(), restated[2].strip()
        for words, digits in ((one, other), (other, one)):
            value = number_in_words(words)
            if value is not None and re.fullmatch(r"[\d,]*\d", digits) and value == int(digits.replace(",", "")):
                return digits
    if (comment := _COMMENT.search(text)) and _balanced(text[: comment.start()]):
        words = (comment["bare"] or comment["text"] or "").strip()
        if unit_of(words.lower() if len(words) > 1 else words) is not None:
            return rf"{text[: comment.start()]}\text{{ {words}}}"
        if re.search("[a-zA-Z]{4}", words) and not changes_a_value(words) and not retracts(words):
            return text[: comment.start()]
    return text


def _balanced(text: str) -> bool:
    return (
        bool(text.strip())
        and text.count("{") == text.count("}")
        and sum(map(text.count, "([")) == sum(map(text.count, ")]"))
    )


def _without_environment(text: str) -> str:
    """Returns the content of an environment that only displays it. Its lines are joined as one chain where they go on
    with a sign of relation, else as a list."""
    if cell := _ONE_CELL.match(text):
        return cell[2].strip()
    match = _ENVIRONMENT.match(text)
    if match is None:
        return text
    body = match["displayed"]
    body = re.sub(r"^\s*\{\d*\}", "", body) if match["display"].startswith("alignat") else body
    if r"\begin" in body:
        outside = _INNER.sub("", body)
        return text if r"\\" in outside or "&" in outside else body.strip()
    joined = ""
    for line in body.split(r"\\"):
        line = line.replace("&", " ").strip()
        if line:
            joined += line if not joined or _CONTINUES.match(line) else f", {line}"
    return joined
