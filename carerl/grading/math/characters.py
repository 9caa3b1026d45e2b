r"""Converts signs of other alphabets to ASCII or LaTeX: full-width forms, Greek letters, raised digits, money. Removes
a tokenizer's marks at the ends of a text. Tables and substitutions only."""

from __future__ import annotations

import re

_A = re.ASCII

_GREEK = "alpha beta gamma delta theta lambda mu pi rho sigma phi omega"
_CHARACTERS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/",
    "∕": "/", "⁄": "/", "√": r"\sqrt ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ",
    "≠": r"\ne ", "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "°": r"^\circ ",
    "º": r"^\circ ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "∠": r"\angle ", "△": r"\triangle ", "’": "'", "′": "'",
    "″": '"', "”": '"', "“": '"', "\u00a0": " ", "\u202f": " ", "\u2009": " ", "¢": r"\text{ cents}",
    "。": ".", "、": ",", "…": "...", "‒": "-", "‘": "'", "˚": r"^\circ ",
    "℃": r"^\circ\text{C}", "℉": r"^\circ\text{F}",
    "µ": r"\mu ", "\u03a9": r"\Omega ", "\u2126": r"\Omega ", "✕": r"\times ", "✖": r"\times ", "⨯": r"\times ",
    **dict(zip("αβγδθλμπρσφω", (rf"\{name} " for name in _GREEK.split()), strict=True)),
    # without width, and marks of writing direction
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2061\u2062\u2063", ""),
}  # fmt: skip
# Full-width forms of ASCII and small ones, as Chinese and Japanese texts have them.
_WIDE = {chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}
_SMALL = "﹐﹑﹒﹔﹕﹖﹗﹙﹚﹛﹜﹟﹠﹡﹢﹣﹤﹥﹦﹨﹩﹪﹫"
_WIDE |= dict(zip(_SMALL, ",,.;:?!(){}#&*+-<>=\\$%@", strict=True))
_WIDE["\u3000"] = " "
_WIDE_SIGN = re.compile("[" + re.escape("".join(_WIDE)) + "。]")
_CHARACTERS |= _WIDE
_TRANSLATION = str.maketrans(_CHARACTERS)
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n", strict=True))
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SCRIPTS = re.compile("([" + "".join(_RAISED) + "]+)|([" + "".join(_LOWERED) + "]+)")
_VULGAR_PARTS = "12 13 23 14 34 15 25 35 45 16 56 18 38 58 78"
_VULGAR = dict(zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", _VULGAR_PARTS.split(), strict=True))
_VULGAR_SIGN = re.compile("[" + "".join(_VULGAR) + "]")
_FOREIGN_MONEY = re.compile(r"([€£¥₹])\s*(\d[\d.,]*)|(\d[\d.,]*)\s*(?:\\text\{\s*)?([€£¥₹])\s*\}?")
_MONEY = {"€": "euros", "£": "gbp", "¥": "yen", "₹": "rupees"}


def half_width(text: str) -> str:
    """Converts full-width and small forms of ASCII to ASCII; adds a space behind the full stop of Chinese and Japanese.

    >>> half_width("Answer：（Ｄ）。")
    'Answer:(D). '
    """
    if text.isascii():
        return text
    return _WIDE_SIGN.sub(lambda m: ". " if m[0] == "。" else _WIDE[m[0]], text)


_SPECIAL = re.compile(
    r"(?:<\|[^|<>\s]{1,40}\|>|</?s>|<(?:eos|bos|pad|unk|eot|end_of_turn|end_of_text|endoftext|end_of_utterance)>"
    r"|<0x0[AaDd]>|\[(?:/?INST|EOS|PAD|SEP|/S)\]|\u2581)\s*$"
)
_BEGINNING = re.compile(r"^(?:<s>|<bos>|<\|begin_of_text\|>)\s*")
_SPACE_OF_TOKENS = re.compile(r"\u2581|\u0120(?=[-\d$\\#])")  # SentencePiece's, and that of byte-level pairs


def without_special_tokens(text: str) -> str:
    """Removes a tokenizer's marks at a text's ends, and writes spaces for its marks of a space."""
    if text.startswith("<"):
        text = _BEGINNING.sub("", text)
    if text.endswith("</answer>") and "<answer>" not in text:  # the prompt began it
        text = text.removesuffix("</answer>")
    while (
        text[-200:].rstrip()[-1:] in (">", "]", "\u2581")
        and (special := _SPECIAL.search(text, max(0, len(text) - 200))) is not None
    ):
        text = text[: special.start()]
    return text if text.isascii() else _SPACE_OF_TOKENS.sub(" ", text)


def ascii_signs(text: str) -> str:
    """Converts signs of other alphabets to LaTeX or ASCII. Digits of other scripts stay, except full-width ones.

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
