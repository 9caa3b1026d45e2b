"""Six ways to say how sure a model is of a response.

``majority`` (CARE-RFT, arXiv 2602.00085)
    Per question: the share of the majority answer among N samples; correctness is then that answer's.
``mean``
    Per sample: the share of the N samples that gave the same answer as it.
``answer_prob``
    Per sample, where the options are closed: the probability of the option that it names, at the token that names it
    and renormalised over the options' tokens (:func:`option_probability`; arXiv 2601.13284 takes the decision token's).
    [ours] At temperature 1, whatever the samples were drawn at; in the spelling that stands there (``carerl.tasks``'
    ``decision``). A sample whose answer is no single token of that kind has none.
``argmax``
    Per sample, where the options are closed: the probability of the likeliest option at that token, and right is
    whether that option is right: what greedy decoding would decide after the same trace. [ours] A calibrated decision
    that is sampled is right less often than the likeliest one, so both are judged.
``sequence``
    Per sample: the geometric mean of its tokens' probabilities, a length-normalised likelihood (Malinin and Gales,
    arXiv 2002.07650).
``verbalized``
    Per sample: the confidence that the response states (Lin et al., arXiv 2205.14334; Tian et al., 2305.14975).

[ours] A response without an answer (unparsed, truncated, invalid) claims nothing: under every estimator it counts in N,
is wrong and has confidence 0. So all estimators judge the same samples, all but ``argmax`` at the same accuracy, and no
answer can be left out to look better. It is a well calibrated item, though: a model that gives few answers has a low
ECE for that reason alone, and the share of answers belongs beside every figure (``eval/…/answered``). The same holds
for ``verbalized``, ``answer_prob`` and ``argmax`` where a response has an answer but no such confidence: 0, and
:class:`Judged` counts it as unstated.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bins import FloatArray

ESTIMATORS = ("majority", "mean", "answer_prob", "argmax", "sequence", "verbalized")


@dataclass(frozen=True, slots=True)
class Judged:
    """Holds rows for the metrics: ``confidence``, ``correct`` and ``questions`` (N,), one per item. ``labels`` (N,):
    items with one number gave the same answer to the same question, so they are right together. ``votes``: the number
    of samples that a confidence is a share of; 0 for other confidences. ``unstated``: samples with an answer but
    without a confidence.
    """

    confidence: FloatArray
    correct: FloatArray
    questions: tuple[str, ...]
    labels: NDArray[np.int64]
    votes: int = 0
    unstated: int = 0


def judge_mean(answers: Mapping[str, Sequence[str | None]], correct: Mapping[str, Sequence[bool]]) -> Judged:
    """Makes a row of each sample: its own answer's share."""
    sizes = {len(found) for found in answers.values()}
    confidence = [share for found in answers.values() for share in answer_shares(found)]
    return _per_sample(answers, correct, confidence, votes=sizes.pop() if len(sizes) == 1 else 0)


def judge_samples(
    answers: Mapping[str, Sequence[str | None]],
    correct: Mapping[str, Sequence[bool]],
    confidence: Mapping[str, Sequence[float | None]],
) -> Judged:
    """Makes a row of each sample, with a confidence of its own: ``answer_prob``, ``argmax`` (with the likeliest options
    as answers), ``sequence`` or ``verbalized``. None, and any confidence of a sample without an answer, become 0."""
    pairs = [p for key, found in answers.items() for p in zip(found, confidence[key], strict=True)]
    stated = [0.0 if answer is None or value is None else value for answer, value in pairs]
    unstated = sum(answer is not None and value is None for answer, value in pairs)
    return _per_sample(answers, correct, stated, unstated=unstated)


def _per_sample(
    answers: Mapping[str, Sequence[str | None]],
    correct: Mapping[str, Sequence[bool]],
    confidence: Sequence[float],
    votes: int = 0,
    unstated: int = 0,
) -> Judged:
    right = [
        float(is_right and answer is not None)
        for key, found in answers.items()
        for answer, is_right in zip(found, correct[key], strict=True)
    ]
    questions = tuple(key for key, found in answers.items() for _ in found)
    given: dict[tuple[str, str | None], int] = {}
    labels = [given.setdefault((key, answer), len(given)) for key, found in answers.items() for answer in found]
    values, verdicts = np.array(confidence, dtype=np.float64), np.array(right, dtype=np.float64)
    return Judged(values, verdicts, questions, np.array(labels, dtype=np.int64), votes, unstated)


def answer_shares(answers: Sequence[str | None]) -> list[float]:
    """Returns for each sample the share of all N that gave its answer; 0 for None.

    >>> answer_shares(["7", "3", "7", None])
    [0.5, 0.25, 0.5, 0.0]
    """
    counts = Counter(answers)
    return [0.0 if answer is None else counts[answer] / len(answers) for answer in answers]


def answer_probability(logprobs: Sequence[float]) -> float:
    """Returns exp of the sum of the answer tokens' log-probs (nats): the probability of the answer as it is written,
    given what precedes it; 0 without tokens. Log-probs that rounding left above 0 count as 0."""
    return math.exp(min(0.0, math.fsum(logprobs))) if logprobs else 0.0


def option_probability(logprobs: Mapping[str, float], option: str) -> float:
    """Returns the probability of ``option`` renormalised over closed options: softmax of their log-probs (nats, each
    summed over the option's tokens). Options at -inf have none; if all are there, the options are equally likely.

    Raises ValueError for an option that is not among them, and for NaN or +inf.
    """
    if option not in logprobs:
        raise ValueError(f"option {option!r}: not one of {sorted(logprobs)}")
    highest = max(logprobs.values())
    if any(math.isnan(value) for value in logprobs.values()) or highest == math.inf:
        raise ValueError("log-probs of options are numbers, or -inf")
    if highest == -math.inf:
        return 1 / len(logprobs)
    return math.exp(logprobs[option] - highest) / math.fsum(math.exp(value - highest) for value in logprobs.values())


def sequence_confidence(logprobs: Sequence[float]) -> float:
    """Returns exp of the mean log-prob (nats) of the response's tokens; 0 without tokens. Log-probs that rounding left
    above 0 count as 0."""
    return math.exp(min(0.0, math.fsum(logprobs) / len(logprobs))) if logprobs else 0.0


# At most 3 digits before and 12 after the point, not part of a longer number: linear in the text's length.
_NUMBER = r"(?<![\d.,+-])(?P<{0}>\d{{1,3}}(?:\.\d{{1,12}})?|\.\d{{1,12}})(?!\d|[.,]\d)"
_VALUE = _NUMBER.format("value") + r"\s{0,3}(?:\\?(?P<percent>%)|(?P<word>percent\b)|/\s?(?P<of>100?)(?![\d.]))?"
_TAG = re.compile(r"<confidence>(?P<inside>[^<>]{0,80})</confidence>", re.IGNORECASE)
_NAMED = re.compile(
    r"\bconfiden(?:ce|t)\b(?:\s{1,3}(?:level|score|in\s(?:my|this|the)\sanswer))?[*_\"'`]{0,3}\s{0,3}"
    r"(?:is|of|at|=|:)?[*_\"'`]{0,3}\s{0,3}(?:about|around|roughly|approximately|~)?\s{0,3}" + _VALUE,
    re.IGNORECASE,
)
_SURE = re.compile(
    _VALUE + r"\s{0,3}(?:confident|confidence(?!\s{1,3}(?:interval|level))|sure|certain)\b", re.IGNORECASE
)
_BARE = re.compile(r"\s*" + _VALUE + r"\s*\.?\s*")
_LONGEST = 100_000  # characters read, from the end: a confidence is stated last


def verbalized_confidence(text: str) -> float | None:
    """Reads the confidence that a text states, in [0, 1]; None if it states none, or none that can be read.

    ============================================== ==========================================================
    form                                           examples
    ============================================== ==========================================================
    ``<confidence>…</confidence>``, the last one   ``<confidence>0.8</confidence>``, ``<confidence>80%</...>``
    the word before the number, the last statement "Confidence: 0.8", "confidence is about 80%", "8/10"
    the number before the word, the last statement "80% confident", "90 % sure", "0.9 certain"
    a text that is nothing but a percentage        "72%", "72 %", "72 percent"
    ============================================== ==========================================================

    The first form is what a prompt asks for (``task.ask_confidence``), and where it is there it decides alone; of the
    next two the one that ends last. A number elsewhere is an answer and no confidence, and so is a text that is nothing
    but a number: "72", "0.8".

    [ours] No scale is guessed. A percent sign, or "/100", divides by 100, "/10" by 10; a number without either is a
    probability, so that "1" is certain, "1%" is .01, and "72" is none (of 100? "8" of 10?). In the third form a whole
    number without a sign is a count ("1 certain way"), and passed over. What is out of range ("150%", "-5", "72"), and
    words ("high"), which have no agreed number, are None.

    >>> [verbalized_confidence(t) for t in ("0.8", "It is 12. Confidence: 0.8", "I am 95% sure", "Confidence: 80")]
    [None, 0.8, 0.95, None]
    """
    text = text[-_LONGEST:]
    tagged = _TAG.findall(text)
    if tagged:
        bare = _BARE.fullmatch(tagged[-1])
        return _as_probability(bare) if bare else None
    found = [*_NAMED.finditer(text), *(match for match in _SURE.finditer(text) if not _is_count(match))]
    if found:
        return _as_probability(max(found, key=lambda match: match.end()))
    bare = _BARE.fullmatch(text)
    return _as_probability(bare) if bare and (bare["percent"] or bare["word"]) else None


def without_statement(text: str) -> str:
    """Removes ``<confidence>…</confidence>`` from a text, so that the number in it is not taken for an answer.

    >>> without_statement("It is 12. <confidence>0.8</confidence>")
    'It is 12. '
    """
    return _TAG.sub("", text)


def blanked_statement(text: str) -> str:
    """Writes spaces for what :func:`without_statement` removes, so that everything else stays at its place.

    >>> blanked_statement("<confidence>1</confidence>12")
    '                          12'
    """
    return _TAG.sub(lambda match: " " * len(match[0]), text)


def _is_count(match: re.Match[str]) -> bool:
    return not (match["percent"] or match["word"] or match["of"] or "." in match["value"])


def _as_probability(match: re.Match[str]) -> float | None:
    value = float(match["value"])
    if match["percent"] or match["word"]:
        value /= 100
    elif match["of"]:
        value /= int(match["of"])
    return value if value <= 1 else None
