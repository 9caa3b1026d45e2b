r"""Reads the options of a question, and finds where a text mentions them.

:func:`mentions` replaces every mention by one private character, so that :mod:`~carerl.grading.choice.statements` can
read what is said of an option without its spelling. A mention is

- a label in any wrapping: ``(B)  [B]  <B>  {B}  "B"  **B**  `B`  $B$  \text{B}``, of either case;
- a label after its noun: ``option b``, ``choice B``, ``letter B``; or a capital label that stands by itself;
- a label beside its own text: ``B) Paris``, ``Paris (B)``. Beside the text of another option it names two;
- the text of an option where a sentence would name one: ``it is Paris.``, ``Paris is the answer``.

The article A, the pronoun I, and a letter inside a formula or a name (``B.C.``, ``f(B)``) are no mentions.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from carerl.grading.math.characters import half_width

MENTION, DENIED, TWO = "[\ue000-\uefff\uf8ff]", "\uf8fe", "\uf8ff"
_FIRST, _TEXTS = 0xE000, 0x800  # of a label, and what is added where a text is mentioned
_BY_TEXT = re.compile("[\ue800-\uefff]")
_FORMULA = "\ufffc"

_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|hbox|fbox|math(?:rm|bf|it|sf|tt)|boldsymbol|bm|emph"
                   r"|operatorname)\s*\{([^{}]*)\}")  # fmt: skip
_STYLED = re.compile("[\ufe58\ufe5d\ufe5e\u2460-\u24ff\U0001d400-\U0001d7ff]")  # circled, bold, script, ...
_CHINESE_ANSWER = re.compile(
    "(?:正确|最终)?(?:答案|选项)[ ]?(?:应该)?(?:是|为|:)[ ]?(?:选项)?"
)  # some answer in it unasked
_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "「": '"', "」": '"', "『": '"', "』": '"',
                         "‘": "'", "’": "'", "【": "[", "】": "]", "〈": "<", "〉": ">", "《": "<", "》": ">",
                         "\u00a0": " ", "\u202f": " ", "、": ", "})  # fmt: skip


def fold(text: str) -> str:
    """Converts full-width, circled and mathematical letters, and quotes and brackets of other scripts, to ASCII.

    >>> fold("（Ｃ）：“𝐂”")
    '(C):"C"'
    """
    if text.isascii():
        return text
    text = _STYLED.sub(lambda m: unicodedata.normalize("NFKC", m[0]), half_width(text)).translate(_QUOTES)
    return _CHINESE_ANSWER.sub(" The answer is ", text)


def plain(text: str) -> str:
    """Returns an option's text without case, macros, punctuation at its ends, and runs of spaces."""
    return " ".join(_TEXT.sub(r"\1", fold(text)).casefold().split()).strip(" .,;:!?\"'`*$")


def without_text_macros(text: str) -> str:
    return _TEXT.sub(r"\1", text)


@dataclass(frozen=True)
class Options:
    """Holds the options, prepared for reading. ``labels``: in order. ``by_label``: by the folded label. ``by_text``:
    labels of each :func:`plain` text."""

    labels: tuple[str, ...]
    by_label: dict[str, str]
    by_text: dict[str, frozenset[str]]
    texts: tuple[tuple[str, int], ...]  # lower-case texts that one option alone has, with its index, longest first
    wrapped: re.Pattern[str]
    noun: re.Pattern[str]
    bare: re.Pattern[str]
    whole: re.Pattern[str]

    def label(self, character: str) -> str | None:
        """Returns the label of a private character; None for a label beside the text of another option."""
        return None if character == TWO else self.labels[ord(character) - _FIRST]


@lru_cache(maxsize=2048)
def read_options(choices: tuple[tuple[str, str], ...]) -> Options:
    """Prepares (label, text) pairs for finding them in a text; done once for all responses to a question."""
    labels = tuple(label for label, _ in choices)
    folded = [fold(label) for label in labels]
    by_text: dict[str, set[str]] = {}
    for label, text in choices:
        by_text.setdefault(plain(fold(text)), set()).add(label)
    single = {text for text, named in by_text.items() if len(named) == 1}
    texts = {}
    for k, (_, text) in enumerate(choices):
        spelled = " ".join(fold(text).split()).strip(" .,;:!?\"'`*$")
        usable = len(spelled) > 1 or not spelled.isalpha()
        if spelled and usable and plain(spelled) in single and len(spelled.lower()) == len(spelled):
            texts[spelled.lower()] = k
    names = "|".join(map(re.escape, sorted(folded, key=len, reverse=True)))
    patterns = _patterns(names)
    by_label = {f.casefold(): label for f, label in zip(folded, labels, strict=True)}
    shared = {text: frozenset(named) for text, named in by_text.items()}
    ordered = tuple(sorted(texts.items(), key=lambda pair: -len(pair[0])))
    return Options(labels, by_label, shared, ordered, *patterns)


@lru_cache(maxsize=256)
def _patterns(names: str) -> tuple[re.Pattern[str], ...]:
    any_case = rf"(?i:{names})"
    article = r"(?![ \t]+[a-z])"  # "a" and "I" before another word are no labels
    verb = (r"(?=[ \t]*(?:$|[\n.,;:!?()\[/&}\]>\"']|(?:is|was|seems|must|would|should|has|fits|works|makes|and|or"
        r"|nor|but"
            r"|because|since|as|rather|over|instead|not|it|are|appears|looks|can|cannot|could|might"
            r"|may|[-–—])(?!\w)))")  # fmt: skip
    return (
        re.compile(rf"(?<![\w\\])[(\[{{<\"']{{1,3}}\s?({any_case})\s?[.:]?[)\]}}>\"']{{1,3}}(?!\w)"),
        re.compile(
            rf"(?<!\w)(?:(?i:(?:answer[ \t]+)?(?:option|choice|letter))[ \t]+(?:(?!a\b"
            rf"|i\b)({any_case})|((?i:a|i)){article})"
            rf"|(?<!would )(?<!I )(?<!'d )(?<!will )(?i:answer|alternative|statement)[ \t]+({names}))(?![\w'^-])"
        ),
        re.compile(
            rf"(?<![\w'\\^_@#$])(?<!\w[-.&(])(?:(?!(?:A|I)(?!\w))({names})|((?:A)){verb}"
            rf"|(?:(?<=is )|(?<=: )|(?<=or )|(?<=and )|(?<=be )|(?<=say )|(?<=not )|(?<=with )|(?<=no, )|(?<=maybe )"
            rf"|(?<=choose ))(I)(?=[ \t]*(?:$|[\n.,;!?)]))|(?<![^\n])(I)(?=[).:]|[ \t]*(?:$|\n)"
            rf"|[ \t]+(?:[-–—]|is)[ \t]))"
            rf"(?![\w'^_@#+]|-\w|\.\w|&\w|[ \t]*[=<>^][ \t]*[-\d\\])"
        ),
        re.compile(rf"[(\[{{<\"'`*_]{{0,4}}\s?({any_case})\s?[)\]}}>\"'`*_.:,;!]{{0,6}}"),
    )


_MARKS = re.compile(r"\*{1,3}|`{1,3}(?:\w*\n)?|(?<!\w)_{1,3}|_{1,3}(?!\w)|(?:(?<=\n)|^)[ \t]*#{1,6}[ \t]*")
_TAGS = re.compile(r"</?[A-Za-z_]{3,20}(?: [^<>]{0,40})?>|\[/?[A-Za-z_]{3,20}\]")
_FONTS = re.compile(r"<(b|i|p|u|em)>([^<>]{0,300})</\1>")
_IN_DOLLARS = re.compile(
    r"\$([^$\n]{1,300})\$|\\\(((?:(?!\\\)).){1,300})\\\)|\\\[((?:(?!\\\]).){1,500})\\\]", re.DOTALL
)
_PRIVATE = re.compile("[\ue000-\uf8ff]")
_SHORT = re.compile(r"[(\[{]?\s*\w{1,3}\s*[)\]}]?\s*[.,;:]?\Z")

# Where a sentence names an option by its text: before it and behind it.
_BEFORE = re.compile(
    r"(?:(?:^|\n|[.!?;][ \t])[ \t]*(?:[-•>→⇒∴]|(?:so|thus|hence|therefore|no|not|nope|yes|sorry"
    r"|correction|rather)\b,?|=+>|-+>)?"
    r"|[:=>→⇒∴([][ \t]*|[-–—][ \t]+|'s\b|(?<!\w)(?:is|was|be|probably|likely|maybe|perhaps|definitely"
    r"|surely|clearly|choose|pick|select|say|said|guess|think|with|leaves|leaving|only"
    r"|so|thus|hence|therefore|not|n't|never|but|rather|than|of|or|nor|and|either|neither|both|for|mean|wait|no|sorry"
    r"|option|choice|answer)\b[,:]?"
    r"|\b(?:so|thus|hence|therefore|no|wait|sorry|or|and|but|rather|it's|not)[,:]|\b\w{1,2}[).:,]|[)\]])"
    r"[ \t]*(?:(?:the|an?)[ \t]+)?[\"'(\[<{]{0,2}\Z",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    r"[\"')\]>}]{0,2}(?:[ \t]*(?:\Z|[.!?](?!\w)|[,;:\n()\[—–])|[ \t]+(?:because|since|as|is|isn't|was"
    r"|seems|fits|works|makes|remains|would|must|and|or|nor|but"
    r"|rather|instead|not|due|should|has to|cannot|can't|-)(?!\w))",
    re.IGNORECASE,
)
_BEHIND_SHORT = re.compile(r"[\"')\]]{0,2}[ \t]*(?:\Z|[.!](?!\w)|\n)")
_COMMON_WORDS = """
answer option choice letter correct because it one this that so no not the he she we they all none there here yes
"""
_COMMON = frozenset(_COMMON_WORDS.split())  # as texts, only where the sentence ends behind them
_PREDICATE = {"correct", "right", "true", "false", "wrong", "best", "accurate", "incorrect", "likely", "possible"}


def mentions(text: str, options: Options) -> str:
    """Returns the text with every mention of an option as one character, without marks of emphasis and formulas."""
    if not text.isascii():
        text = _PRIVATE.sub("", text)
    if "<" in text or "[" in text:
        text = _TAGS.sub("\n", _FONTS.sub(r"\2", text))
    if "\\" in text:
        text = without_text_macros(text)
    if any(mark in text for mark in "*`_#"):
        text = _MARKS.sub("", text)
    if "$" in text or "\\" in text:
        text = _IN_DOLLARS.sub(_formula, text)
    text = _texts(text, options)

    def named(match: re.Match[str]) -> str:
        label = options.by_label.get(next(group for group in match.groups() if group).casefold())
        if label is None:  # the patterns know A and I, which a question may not have
            return match[0]
        return chr(_FIRST + options.labels.index(label))

    if any(mark in text for mark in "([{<\"'"):
        text = options.wrapped.sub(named, text)
    nouns = _ANY_NOUN.search(text) is not None
    if nouns:
        text = options.noun.sub(named, text)
    text = options.bare.sub(named, text)
    text = _lower(text, options)
    if nouns:
        text = _NOUN.sub("", text)
    if _BY_TEXT.search(text) is None:
        return text
    text = _OWN.sub(_joined, text)
    return _BY_TEXT.sub(lambda m: chr(ord(m[0]) - _TEXTS), text)


_ANY_NOUN = re.compile(
    r"[Oo](?:ption|PTION)|[Cc](?:hoice|HOICE)|[Ll](?:etter|ETTER)|[Aa](?:nswer|NSWER|lternative)|[Ss]tatement"
)
_NOUN = re.compile(
    rf"(?<!\w)(?<!would )(?<!I )(?<!'d )(?<!will )(?i:(?:answer[ \t]+)?(?:option|choice|letter"
    rf"|answer)s?)[ \t]+(?=[({{\[<\"']{{0,2}}{MENTION})"
)
_OWN = re.compile(
    r"([\ue000-\ue7ff])(?:[ \t]*[.):,;=–—-]{1,2}[ \t]*|[ \t]*[(\[]|[ \t]+)[\"']?([\ue800-\uefff])[\"')\]]*"
    r"|([\ue800-\uefff])[ \t]*[(\[]?[ \t]*([\ue000-\ue7ff])[)\]]*"
)
_AFTER_START = re.compile(r"(?:^|\n)[ \t]*\Z")


def _formula(match: re.Match[str]) -> str:
    content = next(group for group in match.groups() if group is not None)
    return content if _SHORT.match(content.strip()) else _FORMULA


_LOWER = re.compile(
    r"((?:^|\n)[ \t]*(?:[-•>][ \t]*)?|(?<!\w)(?:is|'s|answer|option|choice|letter|so|thus|hence"
    r"|therefore)[ \t]*[:,=]?[ \t]*|[:=→⇒>∴][ \t]*)"
    r"([a-z])(?=[ \t]*(?:[.)!;:,]?[ \t]*(?:\n|\Z)|\)|[.:,=–—-][ \t]*[\ue000-\uefff]))"
)


def _lower(text: str, options: Options) -> str:
    """Replaces small labels, which are read only where nothing but an answer can stand."""

    def named(match: re.Match[str]) -> str:
        label = options.by_label.get(match[2])
        return match[0] if label is None else match[1] + chr(_FIRST + options.labels.index(label))

    return _LOWER.sub(named, text)


def _texts(text: str, options: Options) -> str:
    lower = text.lower()
    if len(lower) != len(text):
        return text
    spans: list[tuple[int, int, int]] = []
    for spelled, k in options.texts:
        start = lower.find(spelled)
        while start >= 0:
            end = start + len(spelled)
            if not any(s < end and start < e for s, e, _ in spans) and _named_by_text(text, start, end, spelled):
                spans.append((start, end, k))
            start = lower.find(spelled, end)
    for start, end, k in sorted(spans, reverse=True):
        label = options.by_label.get(text[start:end].casefold())  # the text may be another option's label
        sign = TWO if label is not None and label != options.labels[k] else chr(_FIRST + _TEXTS + k)
        text = text[:start] + sign + text[end:]
    return text


def _named_by_text(text: str, start: int, end: int, spelled: str) -> bool:
    behind = _BEHIND_SHORT if len(spelled) < 3 or spelled in _COMMON else _BEHIND
    if (text[end - 1].isalnum() and text[end : end + 1].isalnum()) or not behind.match(text, end):
        return False
    before = text[max(0, start - 24) : start]
    if spelled in _PREDICATE and re.search(r"\b\w{1,2}[)\]\"']?[ \t]+(?:is|was|seems)[ \t]+(?:\w+[ \t]+)?\Z", before):
        return False  # "B is true"
    return _BEFORE.search(before if start > 24 else "\n" + before) is not None


def _joined(match: re.Match[str]) -> str:
    """Merges a label beside a text: into one option, or into the sign for two."""
    one, other = (match[1], match[2]) if match[1] else (match[4], match[3])
    if ord(one) == ord(other) - _TEXTS:
        return one
    inner = match[0][1 : match[0].rindex(match[2] or match[4])].strip(" \t\"'")
    led = inner == "." and _AFTER_START.search(match.string, max(0, match.start() - 9), match.start())
    return TWO if led or (inner == "" and match[1]) or inner in (")", ":", "=", "(", "[", ").", "):") else match[0]
