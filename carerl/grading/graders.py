r"""The graders: ``grade(response, gold, truncated) -> Verdict``. They are pure. Only the time that sympy may take is
not bounded: run them in :mod:`carerl.grading.pool`, whose processes can be ended.

Outcomes mean the same for all of them:

- CORRECT, WRONG: a final answer was found.
- UNPARSED: the response ended by itself without one; an empty box is no answer.
- TRUNCATED: the length limit ended the response before its final answer, or in the middle of it.
- INVALID: the answer is too large to be judged (:class:`~carerl.grading.base.LimitError`).
- ABSTAINED (``selfaware``): the response says that the answer is not known, whether or not that is so.

A gold answer elsewhere in the response earns nothing, and the prompt is not seen.
"""

from __future__ import annotations

import re

from carerl.grading.choice.beside_box import beside_box, chosen, is_formula
from carerl.grading.choice.options import Options, fold, plain, read_options
from carerl.grading.choice.statements import stated
from carerl.grading.math.equivalence import equivalent
from carerl.grading.math.normal_form import MAX_ANSWER, normalise
from carerl.grading.math.structure import Answer, read
from carerl.types import Outcome

from .abstention import abstains, alias_form, configured_similarity, names
from .base import Gold, LimitError, Verdict
from .countdown import solves
from .extraction import Found, boxes, clip, find

MATH_POLICY = ("boxed", "tag", "hashes", "json", "phrase", "result")
GSM8K_POLICY = ("hashes", "boxed", "json", "phrase", "number")
MARKED_CHOICE = ("boxed", "tag", "json")
CHOICE_POLICY = ("option",)
COUNTDOWN_POLICY = ("tag", "boxed", "json", "phrase")
SELFAWARE_POLICY = ("boxed", "tag", "json")
MAX_BARE_WORDS = 60  # of a response without a marked answer that is taken as a whole


def grade_math(response: str, gold: Gold, truncated: bool, policy: tuple[str, ...] = MATH_POLICY) -> Verdict:
    r"""Compares the answer with any of ``gold.accepted``, by equivalence.

    An accepted answer may have k parts (``1, 9``). If the last box then holds a single one, the last k boxes are taken
    together: solutions write ``\boxed{1}`` and ``\boxed{9}``.
    """
    text = clip(response)
    found = find(text, policy, truncated)
    if found is None or not found.text:
        return _none(truncated and found is None)
    try:
        if any(equivalent(found.text, accepted) for accepted in gold.accepted):
            return Verdict(Outcome.CORRECT, found.text)
        joined = _several_boxes(text, gold) if "boxed" in policy else None
        if joined is not None:
            return Verdict(Outcome.CORRECT, joined)
    except (LimitError, RecursionError) as error:
        return Verdict(Outcome.INVALID, found.text[:MAX_ANSWER], f"limit: {error}")
    return Verdict(Outcome.WRONG, found.text)


_SEVERAL = re.compile(r"[,;]|\b(?:and|or)\b|\\(?:pm|lor|vee)(?![a-zA-Z])")


def _several_boxes(text: str, gold: Gold) -> str | None:
    """Joins the last boxes, and returns them if they are the parts of an accepted answer."""
    contents = boxes(text)
    for accepted in gold.accepted:
        if not _SEVERAL.search(accepted):
            continue
        answer: Answer = read(normalise(accepted))
        if answer.kind != "list" or None in contents:
            continue
        for k in range(2, len(answer.parts) + 1):  # a box may hold two of three parts
            if len(contents) >= k and equivalent(joined := ", ".join(c or "" for c in contents[-k:]), accepted):
                return joined
    return None


def grade_gsm8k(response: str, gold: Gold, truncated: bool) -> Verdict:
    """Grades like ``math``, but reads ``####`` first, and the last number as a last resort. ``accepted``: an
    integer."""
    return grade_math(response, gold, truncated, GSM8K_POLICY)


def grade_choice(response: str, gold: Gold, truncated: bool) -> Verdict:
    """Reads which option a response names. ``accepted`` holds the right label (or its option's text), ``choices`` all
    options. The answer is the label.

    [ours] An answer that names two options is WRONG; one that names none is UNPARSED. A box that holds a formula and no
    option is working: then its line and what follows are read. Without a marked answer, the option counts that the
    response states last (:mod:`~carerl.grading.choice.statements`); several options held open are no statement.
    """
    text = fold(clip(response))
    options = read_options(gold.choices)
    right = {label for label in options.labels if label in gold.accepted}
    right = right or {label for a in gold.accepted for label in options.by_text.get(plain(fold(a)), ())}
    bare = text.strip()
    whole = _whole_option(plain(bare), options) if len(bare) <= 2 * MAX_ANSWER else frozenset()
    read: tuple[Found | None, str | None, bool] = (None, next(iter(whole), None), False)
    found, label, several = read if len(whole) == 1 and not truncated else _read_choice(text, options, truncated)
    if label is None:
        if found is not None and several:
            return Verdict(Outcome.WRONG, found.text[:MAX_ANSWER])
        return _none(truncated and found is None)
    return Verdict(Outcome.CORRECT if label in right else Outcome.WRONG, label)


def _whole_option(answer: str, options: Options) -> frozenset[str]:
    """Returns the labels of the option that an answer spells out: its text, or its label and its text ("C tin")."""
    label, _, text = answer.partition(" ")
    named = options.by_text.get(text, frozenset()) & {options.by_label.get(label, "")}
    return options.by_text.get(answer, named)


def _read_choice(text: str, options: Options, truncated: bool) -> tuple[Found | None, str | None, bool]:
    """Returns the text that was found, the label that it names, and whether it names several options."""
    found = find(text, MARKED_CHOICE, truncated)
    if found is not None:
        label, several = chosen(found.text, options)
        if label is None and not several and not is_formula(found.text):
            inside = stated(found.text, options)
            label, several = (inside.label, inside.label is None) if inside else (None, False)
        if label is None and not several:
            for part in beside_box(text, found.text):
                read = _read_unmarked(part, options, truncated)
                if read[1] is not None or read[2]:
                    return read
        return found, label, several
    return _read_unmarked(text, options, truncated)


def _read_unmarked(text: str, options: Options, truncated: bool) -> tuple[Found | None, str | None, bool]:
    if len(text) <= 4 and options.whole.fullmatch(text.strip()):  # also where one token was all that was asked for
        return None, chosen(text, options)[0], False
    said = stated(text, options, truncated)
    if said is not None and said.label is not None and said.firm:
        return Found(said.words), said.label, False
    announced = find(text, CHOICE_POLICY, truncated)
    label, several = chosen(announced.text, options) if announced is not None else (None, False)
    if said is not None and not several and (label is None or said.label is None):
        return Found(said.words), said.label, False
    return announced, label, several


def grade_countdown(response: str, gold: Gold, truncated: bool) -> Verdict:
    """Checks an expression against ``numbers`` and ``target``: it must use each number once and equal the target."""
    text = clip(response)
    found = find(text, COUNTDOWN_POLICY, truncated)
    if found is None and not truncated and len(text) <= 2 * MAX_ANSWER:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) == 1 and re.fullmatch(r"[\d\s+\-*/().×·⋅÷−=\\a-zX{}\[\]$`]{3,500}", lines[0]):
            found = Found(lines[0])
    if found is None or not found.text:
        return _none(truncated and found is None)
    answer = found.text[: 2 * MAX_ANSWER]
    try:
        right = gold.target is not None and solves(answer, gold.numbers, gold.target)
    except (LimitError, RecursionError) as error:
        return Verdict(Outcome.INVALID, answer[:MAX_ANSWER], f"limit: {error}")
    return Verdict(Outcome.CORRECT if right else Outcome.WRONG, answer[:MAX_ANSWER])


def grade_selfaware(response: str, gold: Gold, truncated: bool) -> Verdict:
    """Grades a question that may have no answer.

    An abstention is ABSTAINED for answerable and unanswerable questions alike: the metrics decide whether it was
    deserved. [ours] A hedged answer is an answer ("probably Paris, but I am not sure"), and so is an answer beside an
    unknown side matter ("Paris, although nobody knows why"). Any other answer to an unanswerable question is WRONG. To
    an answerable one it is CORRECT if it names one of ``accepted`` (or equals one, where that is itself "unclear"). A
    marked answer decides alone. Without one the whole response decides if it is short (60 words), else its last
    paragraph.
    """
    text = clip(response)
    found = find(text, SELFAWARE_POLICY, truncated)
    if found is None and (said := find(text, ("words",), truncated)) is not None and said.text.strip(" .,:;!?"):
        found = said  # "I have no idea what the answer is." marks none
    if found is not None and not found.text:
        return _none(False)
    if found is None and truncated:
        return _none(True)
    answer = found.text if found is not None else text.strip()
    if not answer:
        return _none(truncated)
    if found is None and len(answer.split()) > MAX_BARE_WORDS:
        answer = [p for p in re.split(r"\n\s*\n|\n", answer) if p.strip()][-1].strip()
    answer = answer[-2 * MAX_ANSWER :]
    if gold.answerable and alias_form(answer) in {alias_form(alias) for alias in gold.accepted} - {""}:
        return Verdict(Outcome.CORRECT, answer[:MAX_ANSWER])  # "no consensus" may be what is known
    if abstains(answer, None if found is not None else configured_similarity()) or (
        found is not None and abstains(f"the answer is {answer}", configured_similarity())
    ):
        return Verdict(Outcome.ABSTAINED, answer[:MAX_ANSWER])
    right = gold.answerable and names(answer, gold.accepted)
    return Verdict(Outcome.CORRECT if right else Outcome.WRONG, answer[:MAX_ANSWER])


def _none(truncated: bool) -> Verdict:
    return Verdict(Outcome.TRUNCATED if truncated else Outcome.UNPARSED, None)
