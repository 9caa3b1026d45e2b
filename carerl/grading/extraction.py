r"""Finds the final answer in a response. Pure, and linear in the response's length; the prompt is never seen.

A policy is an ordered tuple of names from :data:`FINDERS`; the first finder that finds something decides:

=========== =====================================================================================================
``boxed``   content of the last complete ``\boxed{...}``; an empty one is an answer that cannot be read
``hashes``  what follows the last ``####``, if it looks like a value (a heading does not: ``#### 2. Multiply``)
``tag``     content of the last ``<answer>...</answer>``
``phrase``  what follows the last "the answer is", "final answer:" and the like, or such a heading, to the end of
            the sentence; a formula that comes first there, displayed or not, if no other follows it
``words``   the same, as it stands there
``option``  the same, with the text behind a label
``json``    the value of a JSON field such as ``"answer"``
``result``  what follows the last "the result is" and the like, or stands before "is the answer"
``number``  the last word that holds a digit; never where the length limit ended the response
=========== =====================================================================================================

Of several candidates of one kind only the last counts, so that a list of boxes is not several guesses. If a response
has a think block, only what follows its end is read; a think block that is never closed leaves nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from carerl.grading.math.characters import half_width, without_special_tokens
from carerl.grading.math.normal_form import MAX_ANSWER, closing_brace

from .tails import ASIDE, FORMULA, RETRACTED, first_value, without_tail

MAX_RESPONSE = 100_000  # characters read, from the end
MAX_BOXES = 20  # boxes looked at, from the end

BOX = re.compile(
    r"\\(?:f?boxed|fbox|(?:framebox|bbox|(?:oval|Oval|double|shadow)box|tcbox|tcbhighmath)(?:\s*\[[^\[\]]{0,40}\]){0,2}|fcolorbox\s*\{[^{}]{0,40}\}\s*\{[^{}]{0,40}\})"
    r"(?![a-zA-Z])"
)
_BARE_BOX = re.compile(r"\s{0,3}([-+]?\d[\d.,/]*)", re.ASCII)
_THINK = re.compile(r"(?:^|\n|\|>)[ \t]*<think>")  # elsewhere it is a word of a sentence
END_OF_THINK = "</think>"


@dataclass(frozen=True, slots=True)
class Found:
    """Holds what a finder found. An empty ``text`` means that an answer was marked but cannot be read. ``open``: the
    answer reaches the response's end without an end mark of its own, so that a length limit may have cut it."""

    text: str
    open: bool = False


def clip(response: str) -> str:
    """Returns the part of a response that can hold its answer: the text after the last think block, at most the last
    100,000 characters; empty if a think block is not closed. Idempotent."""
    end = response.rfind(END_OF_THINK)
    if _THINK.search(response, max(0, end)):
        return ""
    start = max(end + len(END_OF_THINK) if end >= 0 else 0, len(response) - MAX_RESPONSE)
    text = response[start:]
    return without_special_tokens(half_width(text))


def boxes(text: str) -> list[str | None]:
    """Returns the contents of the last complete boxes (20 at most), in order; None for a box that is empty or too
    long."""
    found: list[str | None] = []
    for match in list(BOX.finditer(text))[-MAX_BOXES:]:
        complete, content = box_content(text, match.end())
        if complete:
            found.append(content)
    return found


def extract_boxed(text: str) -> str | None:
    r"""Returns the content of the last complete ``\boxed{...}`` or ``\fbox{...}``, stripped; None if there is none.

    Escaped braces are not counted. ``\boxed 5`` is read for plain numbers. An unfinished last box gives way to the one
    before it. An empty one, or one of more than 500 characters, is no answer and does not give way.
    """
    found = boxes(text)
    return found[-1] if found else None


def box_content(text: str, start: int) -> tuple[bool, str | None]:
    """Returns whether the box is complete, and its content."""
    bare = _BARE_BOX.match(text, start, start + MAX_ANSWER)
    if bare:
        return True, bare.group(1).rstrip(".,")
    end = min(len(text), start + 4 * MAX_ANSWER)
    while start < end and text[start].isspace():
        start += 1
    if start >= end or text[start] != "{":
        return False, None
    closing = closing_brace(text[:end], start)
    if closing < 0:
        return False, None
    content = text[start + 1 : closing].strip()
    return True, content if 0 < len(content) <= MAX_ANSWER else None


def _boxed(text: str) -> Found | None:
    found = boxes(text)
    return Found(found[-1] or "") if found else None


_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")  # of GSM8K's calculator: <<4*3=12>>12
_HASHES = re.compile(r"####[ \t]*(?:<<[^<>\n]{1,100}>>)?([-+−$\\(\[.\d€£][^\n]{0,200})(\n?)", re.ASCII)


_HEADING = re.compile(r"\d{1,3}[.)][ \t]+[A-Za-z]|\([a-z0-9]\)[ \t]+[A-Za-z]|[^\n]*(?:\b[A-Za-z]{2,}\b[^\n]*){4}")
_UNFINISHED = re.compile(r"(?:\b(?:so|then|and|thus|therefore)|[:,=])\s*$", re.IGNORECASE)


def last_hashes(text: str) -> re.Match[str] | None:
    """Returns the last ``####`` with what looks like a value behind it: group 1, to the end of the line."""
    last = None
    for match in _HASHES.finditer(text):
        last = last if _HEADING.match(match[1]) or _UNFINISHED.search(match[1]) else match
    return last


def _hashes(text: str) -> Found | None:
    last = last_hashes(text)
    if last is None:
        return None
    text = _ANNOTATION.sub("", last[1]) if "<<" in last[1] else last[1]
    text = _within(text).strip()
    value = first_value(text)
    kept = without_tail(*value) if value else None
    return Found(text if kept is None else kept, not last[2])


def _within(text: str) -> str:
    r"""Cuts a text before a brace that closes what was opened outside of it: in ``\boxed{#### 5}`` it keeps what the
    box holds."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return text[:place]
    return text


_TAG = re.compile(r"<answer>([^<]{0,2000}(?:<(?!/?answer>)[^<]{0,2000}){0,20})</answer>", re.IGNORECASE)


def last_tag(text: str) -> re.Match[str] | None:
    """Returns the last ``<answer>...</answer>``; group 1 is what it holds."""
    last = None
    for last in _TAG.finditer(text):  # noqa: B007
        pass
    return last


def _tag(text: str) -> Found | None:
    last = last_tag(text)
    return Found(last[1].strip()) if last else None


_PHRASE = re.compile(
    r"(?:^|\n)[ \t]{0,3}(?:#{1,6}|[*_]{1,3})[ \t]{0,3}"
    r"(?:the )?(?:final )?answer[ \t]{0,3}[*_]{0,3}[ \t]{0,3}\n\s{0,6}(?=\S)|"
    r"\bfinal answer[*_]{0,3}[ \t]{1,3}(?=[-\d$\\(])|"
    r"\bans\.?[*_]{0,3}[ \t]{0,3}[:=][ \t*_]{0,6}(?=\S)|"
    r"\banswers?[*_]{0,3}(?:[ \t]{1,3}(?:to|for|of)\b[^\n.:=]{0,80}?)?"
    r"(?:[ \t]{1,3}(?:is|are|was|will be|would be|must be|should be|comes to|equals)\b|[ \t]{0,3}[:=])["
    r" \t*_:=]{0,6}(?:\n[ \t*_]{0,6}(?:>[ \t])?){0,2}(?=\S)",
    re.IGNORECASE,
)
_IS_THE_ANSWER = re.compile(
    r"(?<![\w$.])(?:\*{2})?(\$[^$\n]{1,200}\$|-?\d[\d.,/]{0,60})(?:\*{2})? is (?:the|our|my) "
    r"(?:final |correct |required )?answer\b",
    re.IGNORECASE,
)
_IN_DOUBT = re.compile(r"\b(?:not|nor|or|if|and|whether)\s+$", re.IGNORECASE)
_RESULT = re.compile(
    r"\b(?:solution|result|final value)[*_]{0,3}(?:[ \t]{1,3}(?:is|are|equals)\b"
    r"|[ \t]{0,3}[:=])[ \t*_:=]{0,6}(?=[-\d$\\(])",
    re.IGNORECASE,
)
_MAX_SENTENCE = 600
_STOP = re.compile(
    r"[.!?](?=\s|$|\*)(?<!\b[apAP]\.[mM]\.)(?<!\b(?:sq|ft|in|[mM]r|[dD]r|[sS]t|[jJ]r|[sS]r|vs)\.)", re.ASCII
)
_INITIAL = re.compile(r"(?:[A-Za-z]{2,}\s|\.\s?)[A-Za-z]$", re.ASCII)  # "Henry C. Pelton", "D.C. lottery"


def _phrase(text: str) -> Found | None:
    return _announced(text, _PHRASE)


def _words(text: str) -> Found | None:
    return _announced(text, _PHRASE, words=True)


def _option(text: str) -> Found | None:
    found = _announced(text, _PHRASE)
    if found is None or not re.fullmatch(r"[(\[]?\w{1,2}[)\]]?", found.text):
        return found
    following = re.search(
        rf"{re.escape(found.text)}[*_]*[.:][*_]*[ \t]+([^\n.]{{1,120}})\.?[ \t]*(?:\n|$)", text[-_MAX_SENTENCE:]
    )
    return Found(f"{found.text}. {following[1]}", found.open) if following else found


_JSON = re.compile(
    r'"(?:final_?answer|answer|choice|option)"\s*:\s*("(?:[^"\\]|\\.){1,500}"|[-\d.]{1,100})', re.IGNORECASE
)


def _json(text: str) -> Found | None:
    last = None
    for last in _JSON.finditer(text):  # noqa: B007
        pass
    if last is None:
        return None
    try:
        return Found(str(json.loads(last[1], strict=False)).strip())
    except ValueError:
        return Found(last[1].strip('"'))


def _result(text: str) -> Found | None:
    last = None
    for last in _IS_THE_ANSWER.finditer(text):  # noqa: B007
        pass
    if last is not None and not _IN_DOUBT.search(text, max(0, last.start() - 8), last.start()):
        return Found(last[1].strip("$"))
    return _announced(text, _RESULT)


def _announced(text: str, phrase: re.Pattern[str], words: bool = False) -> Found | None:
    """Returns what follows the last phrase that is not denied. ``words``: as it stands there, with what belongs to a
    value."""
    last = None
    for match in phrase.finditer(text):
        last = last if _DENIED.search(text, max(0, match.start() - 60), match.start()) else match
    if last is None:
        return None
    rest = text[last.end() : last.end() + 2 * _MAX_SENTENCE]
    rest = rest if words else _ADVERB.sub("", rest)
    if formula := FORMULA.match(rest):
        behind, _ = _sentence(rest[formula.end() :])
        content = next(part for part in formula.groups() if part is not None).strip(" .,;\n")
        kept = without_tail(content, behind)
        if kept is not None and not RETRACTED.match(rest[formula.end() + len(behind) :]):
            inner = _boxed(content)
            return inner if inner is not None else Found(kept)
    answer, ended = _sentence(rest)
    if ended and RETRACTED.match(rest.lstrip()[len(answer) :].lstrip("\n")):
        return Found(rest[: len(answer) + 40].strip())
    if not words and (value := first_value(answer) or _stated(answer)) is not None:
        kept = without_tail(*value)
        if kept is not None:
            inner = _boxed(kept)
            return inner if inner is not None else Found(kept, not ended and not value[1].strip())
    if aside := ASIDE.search(answer):
        answer, ended = answer[: aside.start()], True
    answer = answer.strip("*_ \t:\"'")
    inner = _boxed(answer)
    return inner if inner is not None else Found(answer, not ended)


# "The largest $n$ is 34": what is asked for, named again, and its value.
_STATES = re.compile(
    r"(?:the|our|its|his|her|their|there|this|that|it|a|an|so|thus|therefore|hence|we|\$[a-zA-Z]\$)\b(?P<named>[^.;:?!=<>]{0,120}?)"
    r"(?<=[\s$])(?:is|are|equals)\s+(?:(?:therefore|thus|then|just|simply|exactly|equal to|hence)\s+)*",
    re.IGNORECASE,
)
_NO_NAME = re.compile(
    r"\b(?:not|never|no|none|neither|nor|if|unless|whether|or|and|either|when|where|suppose|assum\w+|except|but|false|wrong"
    r"|incorrect|untrue|doubt\w*|claims?|say|says|guess|maybe|perhaps|possibly|probably|is|are|equals)\b|n't\b",
    re.IGNORECASE,
)


def _stated(sentence: str) -> tuple[str, str] | None:
    """Returns the value that a sentence states of what it names first, and the rest; None where it may deny it."""
    match = _STATES.match(sentence)
    if match is None or _NO_NAME.search(match["named"]):
        return None
    rest = sentence[match.end() :]
    return first_value(rest.replace("\\$", "$", 1) if rest.startswith("\\$") else rest)


def _sentence(rest: str) -> tuple[str, bool]:
    """Returns the first sentence of a line, and whether it ends there."""
    line, newline, _ = rest[:_MAX_SENTENCE].partition("\n")
    answer, ended = line.strip(), bool(newline)
    for stop in _STOP.finditer(answer):
        if stop.end() == len(answer) or not _INITIAL.search(answer[: stop.start()]):
            return answer[: stop.start()], True
    return answer, ended


_DENIED = re.compile(
    r"(?:\b(?:not|no|isn't|never)|\b(?:not true|false|untrue|wrong|incorrect|doubt|myth|misconception|claims?|say)\b"
    r"[^.\n]{0,24}\bthat)\s+(?:(?:the|an|final|correct)\s+)*$",
    re.IGNORECASE,
)
_ADVERB = re.compile(
    r"^(?:(?:equal to|given by|thus|therefore|hence|then|simply|just|clearly|indeed|definitely"
    r"|certainly|obviously|actually|exactly|approximately"
    r"|about)\b[ \t,:]*)+",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d", re.ASCII)


def _number(text: str) -> Found | None:
    if "<<" in text[-2 * MAX_ANSWER :]:
        text = text[: -2 * MAX_ANSWER] + _ANNOTATION.sub("", text[-2 * MAX_ANSWER :])
    end = len(text)
    while end > 0:  # the last word with a digit, without splitting the whole text
        digit = max((text.rfind(d, 0, end) for d in "0123456789"), default=-1)
        if digit < 0:
            return None
        start = digit
        while start > 0 and not text[start - 1].isspace() and digit - start < MAX_ANSWER:
            start -= 1
        stop = digit
        while stop < len(text) and not text[stop].isspace() and stop - digit < MAX_ANSWER:
            stop += 1
        word = re.sub(r"\\[()\[\]]", "", text[start:stop]).strip("*_`\"'.,;:!?=()[]{}<>~")
        if _DIGIT.search(word):
            return Found(word, True)
        end = start
    return None


FINDERS: dict[str, Callable[[str], Found | None]] = {
    "boxed": _boxed,
    "hashes": _hashes,
    "tag": _tag,
    "phrase": _phrase,
    "words": _words,
    "option": _option,
    "json": _json,
    "result": _result,
    "number": _number,
}


def find(text: str, policy: tuple[str, ...], truncated: bool) -> Found | None:
    """Returns the final answer in a clipped response, by the first finder of the policy that finds one. Where the
    length limit ended the response, an answer that it may have cut does not count."""
    decided = decisive(text, policy, truncated)
    return None if decided is None else decided[1]


def decisive(text: str, policy: tuple[str, ...], truncated: bool) -> tuple[str, Found] | None:
    """Returns the same with the name of the finder that decides."""
    for name in policy:
        found = FINDERS[name](text)
        if found is not None and not (truncated and found.open):
            return name, found
    return None
