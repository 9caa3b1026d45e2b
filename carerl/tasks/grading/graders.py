r"""The graders: ``grade(response, gold, truncated) -> Verdict``. Pure, and bounded but for what sympy may take: run
them in :mod:`carerl.backends.grader_pool`, whose processes can be ended.

What an outcome means, for all of them:

- CORRECT, WRONG: a final answer was found.
- UNPARSED: the response ended by itself without one; an empty box is none.
- TRUNCATED: the length limit ended the response before its final answer, or in the middle of it.
- INVALID: the answer is too large to be judged (:class:`~carerl.tasks.grading.base.LimitError`).
- ABSTAINED (``selfaware``): it says that the answer is not known, whether or not that is so.

The gold answer elsewhere in the response earns nothing, and the prompt is not seen.
"""

from __future__ import annotations

import re

from carerl.types import Outcome

from .abstention import abstains, alias_form, configured_similarity, names
from .base import Gold, LimitError, Verdict
from .choice import WORDY, chosen, plain, verdict
from .countdown import solves
from .equivalence import equivalent
from .extraction import Found, boxes, clip, find
from .normal_form import MAX_ANSWER, normalise
from .structure import Answer, read

MATH_POLICY = ("boxed", "tag", "hashes", "json", "phrase", "result")
GSM8K_POLICY = ("hashes", "boxed", "json", "phrase", "number")
CHOICE_POLICY = ("boxed", "tag", "json", "option")
COUNTDOWN_POLICY = ("tag", "boxed", "json", "phrase")
SELFAWARE_POLICY = ("boxed", "tag", "json", "words")
MAX_BARE_WORDS = 60  # of a response without a marked answer that is taken as a whole


def grade_math(response: str, gold: Gold, truncated: bool, policy: tuple[str, ...] = MATH_POLICY) -> Verdict:
    r"""Any of ``gold.accepted``, by equivalence. Where an accepted answer has k parts (``1, 9``) and the last box
    holds a single one, the last k boxes are taken together: solutions put ``\boxed{1}`` and ``\boxed{9}``."""
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
    """The last boxes, joined, if they are the parts of an accepted answer."""
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
    """As ``math``, with ``####`` first and the last number as a last resort. ``accepted``: an integer."""
    return grade_math(response, gold, truncated, GSM8K_POLICY)


def grade_choice(response: str, gold: Gold, truncated: bool) -> Verdict:
    """``accepted`` holds the right label (or its option's text), ``choices`` all options. The answer is the label.

    [ours] An answer that names two options is WRONG; one that names none is UNPARSED. A response without a marked
    answer counts only if it is nothing but an option ("B", "(B) Paris")."""
    text = clip(response)
    right = {label for label, option in gold.choices for a in gold.accepted if a == label}
    right = right or {label for label, option in gold.choices for a in gold.accepted if plain(a) == plain(option)}
    bare = text.strip()
    whole = (
        {label for label, option in gold.choices if plain(option) == plain(bare)}
        if len(bare) <= 2 * MAX_ANSWER
        else set()
    )
    if len(whole) == 1 and not truncated:
        return Verdict(Outcome.CORRECT if whole & right else Outcome.WRONG, whole.pop())
    found = find(text, CHOICE_POLICY, truncated)
    if found is None:
        label = _unmarked_choice(bare, gold, truncated)
        return Verdict(Outcome.CORRECT if label in right else Outcome.WRONG, label) if label else _none(truncated)
    if not found.text:
        return _none(False)
    label, several = chosen(found.text, gold.choices)
    if label is None:
        return Verdict(Outcome.WRONG, found.text[:MAX_ANSWER]) if several else _none(False)
    return Verdict(Outcome.CORRECT if label in right else Outcome.WRONG, label)


def _unmarked_choice(text: str, gold: Gold, truncated: bool) -> str | None:
    """The option of a response that marks none: a whole that is an option, a first line that is one, followed by its
    explanation, or the last "B is correct"."""
    if len(text) <= MAX_ANSWER and (not truncated or len(text) <= 4):
        label = _whole_choice(text, gold)
        if label is not None:
            return label
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and len(lines[0]) <= MAX_ANSWER:
        label = _whole_choice(lines[0], gold)
        others = {_whole_choice(line, gold) for line in lines[1:100] if len(line) <= MAX_ANSWER} - {None, label}
        if label is not None and not others and verdict(text) in (None, label):
            return label
    label = verdict(text)
    return label if label in {name for name, _ in gold.choices} else None


def _whole_choice(text: str, gold: Gold) -> str | None:
    """The option that a text is, rather than mentions: a label, a label with its mark and a line, or an option."""
    line = WORDY.sub("", text.replace("**", "").strip("*_ \n"))
    labels = "|".join(re.escape(label) for label, _ in gold.choices)
    options = {plain(option) for _, option in gold.choices}
    marked = rf"[(\[]?(?:{labels})(?:[)\].:,]*|(?:[)\].:]+|\s+[-–—])\s*\S[^\n]*)"
    beside = re.fullmatch(rf"(.+?)\s*[(\[](?:{labels})[)\]]\.?", line)
    if re.fullmatch(marked, line, re.IGNORECASE) or plain(line) in options or (beside and plain(beside[1]) in options):
        return chosen(line, gold.choices)[0]
    return None


def grade_countdown(response: str, gold: Gold, truncated: bool) -> Verdict:
    """``numbers`` and ``target``: the answer is an expression that uses each number once and equals the target."""
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
    """Abstention is ABSTAINED, for answerable and unanswerable questions alike: which of them deserve it is the
    metric's business. Any other answer to an unanswerable question is WRONG; to an answerable one it is CORRECT if it
    names one of ``accepted`` (is one of them, where that is itself "unclear"). A marked answer decides alone; without
    one the whole response does if it is short (60 words), else its last paragraph."""
    text = clip(response)
    found = find(text, SELFAWARE_POLICY, truncated)
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
    said = f"the answer is {answer}" if found is not None else answer
    if abstains(answer) or abstains(said, configured_similarity()):
        return Verdict(Outcome.ABSTAINED, answer[:MAX_ANSWER])
    right = gold.answerable and names(answer, gold.accepted)
    return Verdict(Outcome.CORRECT if right else Outcome.WRONG, answer[:MAX_ANSWER])


def _none(truncated: bool) -> Verdict:
    return Verdict(Outcome.TRUNCATED if truncated else Outcome.UNPARSED, None)
