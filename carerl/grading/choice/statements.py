r"""Reads what a response without a marked answer states: the option that it says is right.

A statement is one of

- a line that is an option: ``B``, ``(B) Paris``, ``=> B``, ``So, B.``; the first line may go on with its reason;
- a noun that the option is said of: ``the best choice is B``, ``Answer - B``, ``my guess: B``;
- an option that is said to be right: ``B is the answer``, ``B fits best``, ``only B works``;
- what the writer does: ``I would say B``, ``I'd go with B``, ``that leaves B``.

The last statement counts. A denial is no statement (``not A, it is B`` states B); neither is a question, a supposition,
or what others say (``if B is right``, ``some say B``). A statement of two options names none, nor does one followed by
another option held open ("or maybe C").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .options import DENIED, MENTION, Options, mentions
from .statement_forms import (
    ANY_CASE,
    CONDITION,
    CONNECTED,
    CORRECTION,
    DENIALS,
    GUESSED,
    IN_MATCH,
    LEAD,
    NEAR,
    OPEN,
    RETRACTED_BEHIND,
    SENTENCES,
    STARTS,
    STRONG,
    TAKEN_BACK,
    TURN,
    UNASSERTED,
    WEAK,
)

MAX_STATED = 2_000  # characters from the end in which a statement is looked for, beside the first line


@dataclass(frozen=True, slots=True)
class Stated:
    """Holds what is stated. ``label`` None: several options are held open, or the statement is taken back. ``words``:
    the sentence, as :func:`mentions` writes it. ``firm``: more than an option that is called right somewhere."""

    label: str | None
    words: str
    firm: bool = True


@dataclass(frozen=True, slots=True)
class _Claim:
    place: int  # of its sentence
    named: frozenset[str]  # private characters
    kind: str  # strong, weak, bare (a line that is an option), led (a label before other words), guess
    sentence: str
    last: bool = False  # nothing but an option, as the last line


def stated(text: str, options: Options, truncated: bool = False) -> Stated | None:
    """Returns the option that a text states; None if it states none. Most responses state it at their end: that is read
    first, and the rest only if the end has no statement that outranks all others."""
    if len(text) > _END + 50 and (border := _BORDER.search(text, len(text) - _END)) is not None:
        read, claim = _stated(text[border.end() :], options, truncated, opening=False)
        if claim is not None and (claim.kind == "strong" or (claim.kind == "bare" and claim.last)):
            return read
    if len(text) > MAX_STATED:  # its first line and its end
        text = text[: text.find("\n") + 1][:_END] + text[-MAX_STATED:]
    return _stated(text, options, truncated, opening=True)[0]


_END = 250  # characters
_BORDER = re.compile(r"\n|[.!?][ \t]")


def _stated(text: str, options: Options, truncated: bool, opening: bool) -> tuple[Stated | None, _Claim | None]:
    text = mentions(text, options)
    if re.search(MENTION, text) is None:
        return None, None
    for denial in DENIALS:
        text = denial.sub(DENIED, text)
    text = CORRECTION.sub(DENIED, text)
    sentences = _split(text)
    if truncated and sentences and not re.search(r"[.!?\n][ \t]*\Z", text):
        sentences.pop()
    claims: list[_Claim] = []
    for place in reversed(range(len(sentences))):
        found = _claims(place, *sentences[place], opening and place == 0, place == len(sentences) - 1)
        claims = found + claims
        if found and found[0].kind == "strong":
            break  # no claim before the last strong one counts
    return _decide(claims, [s for s, _, _ in sentences], options)


def _split(text: str) -> list[tuple[str, bool, bool]]:
    """Splits a text into sentences. Says of each whether it begins and whether it ends its line."""
    found = []
    for line in re.split(r"\n+", text):
        parts = [part for part in SENTENCES.split(line.strip()) if part.strip(" \t.")]
        found += [(part.strip(), k == 0, k == len(parts) - 1) for k, part in enumerate(parts)]
    return found


def _claims(place: int, sentence: str, first: bool, last: bool, opening: bool, closing: bool) -> list[_Claim]:
    if re.search(MENTION, sentence) is None:
        return []
    if sentence.endswith("?"):
        return [_Claim(place, frozenset(), "rejected", sentence)] if STRONG[0].search(sentence) else []
    if bare := _bare(place, sentence, first, last, opening, closing):
        return [bare]
    if NEAR.search(sentence) is None:
        return []
    rejected = False
    for kind, patterns in (("strong", STRONG), ("weak", WEAK)):
        found: list[tuple[int, _Claim]] = []
        for pattern in patterns:
            for match in pattern.finditer(sentence):
                if not _asserted(sentence, match):
                    rejected = rejected or pattern is STRONG[0]
                else:
                    found.append((match.start("t"), _Claim(place, _named(match["t"]), kind, sentence)))
        if found:
            return [max(found, key=lambda pair: pair[0])[1]]
    return [_Claim(place, frozenset(), "rejected", sentence)] if rejected else []


def _named(mentioned: str) -> frozenset[str]:
    return frozenset(re.findall(MENTION, mentioned))


def _asserted(sentence: str, match: re.Match[str]) -> bool:
    before = sentence[max(0, match.start() - 80) : match.start()]
    if UNASSERTED.search(before) or IN_MATCH.search(match[0]) or CONDITION.match(sentence, match.end()):
        return False
    return (
        RETRACTED_BEHIND.search(sentence, match.end()) is None
        and sentence[match.end() : match.end() + 2].strip() != "?"
    )


def _bare(place: int, sentence: str, first: bool, last: bool, opening: bool, closing: bool) -> _Claim | None:
    """Reads a sentence that is an option, or begins with one."""
    lead = LEAD.match(sentence)
    start = lead.end() if lead else 0
    match = STARTS.match(sentence, start)
    if match is None or not (first or closing):
        return None
    before, rest = sentence[:start], match["rest"].strip()
    named = _named(match["t"])
    strong = CONNECTED.search(before) is not None or DENIED in before
    if GUESSED.search(before):
        return _Claim(place, named, "guess", sentence) if last or closing else None
    if re.match(rf"[^\w\ue000-\uf8ff]*(?:(?:then|and|or|no)\b[^\w\ue000-\uf8ff]*)?{MENTION}", rest):  # another at once
        return _Claim(place, named | _named(rest), "strong", sentence)
    rest = rest.strip(f" \t.!,;:\"'()[]{{}}<>{DENIED}")
    if not re.search(r"[\w?✗✘❌\ue000-\uefff\uf8ff]", rest):
        if last or closing:
            return _Claim(place, named, "strong" if strong else "bare", sentence, closing and first)
        return _Claim(place, named, "strong" if strong else "led", sentence)
    if re.match(
        r"(?:because|since|as|for|due to|I think|I guess|I believe|I'd say|of course|obviously|clearly"
        r"|definitely|given)\b",
        rest,
        ANY_CASE,
    ):
        return _Claim(place, named, "bare", sentence)
    if re.match(r"\d", rest):  # a probability
        return None
    if match["mark"].strip("\"',;") or re.match(r"[-–—]", rest):
        return _Claim(place, named, "led", sentence) if opening else None
    return None


def _decide(claims: list[_Claim], sentences: list[str], options: Options) -> tuple[Stated | None, _Claim | None]:
    chosen = _last([claim for claim in claims if claim.kind != "rejected"])
    if chosen is None:
        return (Stated(None, claims[-1].sentence) if claims and claims[-1].kind == "rejected" else None), None
    label = options.label(next(iter(chosen.named))) if len(chosen.named) == 1 else None
    if label is None:
        return Stated(None, chosen.sentence), chosen
    for place in range(chosen.place, len(sentences)):
        sentence = sentences[place]
        if place > chosen.place and TAKEN_BACK.match(sentence):
            return Stated(None, chosen.sentence), chosen
        for pattern in OPEN:
            if any(_named(match["t"]) - chosen.named for match in pattern.finditer(sentence)):
                return Stated(None, chosen.sentence), chosen
    return Stated(label, chosen.sentence, chosen.kind != "weak"), chosen


def _last(claims: list[_Claim]) -> _Claim | None:
    """Returns the claim that counts: the last strong one, else lines that agree on one option, else what is said to be
    right."""
    if not claims:
        return None
    lines = [claim for claim in claims if claim.kind in ("bare", "led")]
    strong = [claim for claim in claims if claim.kind == "strong"]
    weak = [claim for claim in claims if claim.kind == "weak"]
    if strong:
        counted = strong[-1]
        later = [
            c for c in claims if c.place > counted.place and c.kind in ("bare", "weak") and c.named != counted.named
        ]
        if later and later[-1] is claims[-1] and (later[-1].kind == "bare" or TURN.search(later[-1].sentence)):
            same = {c.named for c in later if c.kind == later[-1].kind}
            if later[-1].kind == "bare" and len(same) == 1:  # "Answer: A", and below it "B"
                return _Claim(counted.place, counted.named | later[-1].named, "strong", counted.sentence)
            return later[-1] if len(same) == 1 else counted
        if any(c.kind == "weak" for c in later):
            return _Claim(
                counted.place, frozenset().union(*(c.named for c in [counted, *later])), "strong", counted.sentence
            )
        return counted
    bare = [c for c in lines if c.kind == "bare"] if any(c.kind == "bare" for c in lines) else lines
    agreed = {c.named for c in lines}
    if lines and len(agreed) == 1:
        if weak and weak[-1].named != lines[-1].named:
            return weak[-1] if weak[-1].place > lines[-1].place else lines[-1]
        return lines[-1]
    if weak:
        return weak[-1] if len({c.named for c in weak}) == 1 else None
    if bare and len({c.named for c in bare}) == 1:
        return bare[-1]
    guesses = {c.named for c in claims if c.kind == "guess"}
    return claims[-1] if len(guesses) == len(claims) == 1 else None
