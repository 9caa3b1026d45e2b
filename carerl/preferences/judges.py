r"""Judges steps: by what the task knows, by completions, or by a second model's text. Pure.

All three write a verdict into :attr:`carerl.preferences.records.Step.right`. Steps after the first wrong one have none:
nothing says whether they are right. [ours] The step that ends a response has the answer in it, and the grader's
verdict, whatever completions or reviews say.

Monte-Carlo (Wang et al., arXiv 2312.08935): a step is as right as the share of completions from there that end in the
right answer. [ours] A step that ends its response needs no completion, nor does one after a wrong one.

A second model reads the whole solution and names the first wrong step, in the form of ProcessBench (Zheng et al.,
arXiv 2412.06559), which models like Qwen2.5-Math-Instruct have been measured with: steps are numbered from 0, and -1
says that all are right. The wording is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from carerl.grading.extraction import extract_boxed
from carerl.preferences.records import Solution
from carerl.types import Outcome, Sample

ALL_RIGHT = -1  # instead of the number of a step

_REQUEST = r"""Below are a problem in mathematics and a solution to it. The solution is cut into steps. Each step stands
between tags that bear its number; the first step has the number 0.

[Problem]

{question}

[Solution]

{steps}

Check the solution step by step. As soon as you find a step with an error, stop: the answer is the number of that
step. If there is no error in any step, the answer is {all_right}. Put the answer, which is one number, into
\boxed{{}}."""


def by_task(solution: Solution, labels: Sequence[bool | None]) -> Solution:
    """Returns the solution with what the task knows of its steps (:class:`carerl.tasks.base.ChecksSteps`)."""
    return labelled(solution, [None if label is None else float(label) for label in labels])


def labelled(solution: Solution, verdicts: Sequence[float | None]) -> Solution:
    """Returns the solution with a verdict for each step. Raises ValueError for another number of verdicts."""
    steps = zip(solution.steps, verdicts, strict=True)
    return replace(solution, steps=tuple(replace(step, right=verdict) for step, verdict in steps))


def to_complete(solutions: Sequence[Solution]) -> list[tuple[int, ...]]:
    """Returns what the steps of one question's solutions are to be completed from: tokens of responses, each once, in
    the order of the solutions. Steps that end a response, and steps that the length limit cut, need no completion."""
    found: dict[tuple[int, ...], None] = {}
    for solution in solutions:
        response = solution.sample.response_ids
        found |= {response[: step.end]: None for step in solution.steps if step.end < len(response)}
    return list(found)


def next_places(
    solutions: Sequence[Solution], shares: Mapping[tuple[int, ...], float | None], wrong_to: float
) -> list[tuple[int, ...]]:
    """Returns the places of one question that are to be completed next, each once: of each solution the first one that
    is not in ``shares``, if no step before it is wrong (``wrong_to`` or less). ``shares``: of :func:`to_complete`."""
    found: dict[tuple[int, ...], None] = {}
    for solution in solutions:
        response = solution.sample.response_ids
        for step in solution.steps:
            place = response[: step.end]
            if step.end == len(response):
                break
            if place not in shares:
                found[place] = None
                break
            if _is_wrong(shares[place], wrong_to):
                break
    return list(found)


def by_completions(
    solution: Solution, shares: Mapping[tuple[int, ...], float | None], wrong_to: float = 0.0
) -> Solution:
    """Returns the solution with Monte-Carlo verdicts. ``shares``: for each of :func:`to_complete`, the share of
    completions that ended in the right answer; a step without any has no verdict. Steps after the first wrong one
    (``wrong_to`` or less) have none.

    The last step's is the grader's: 1 or 0, and none where the limit cut the response or grading failed.
    """
    sample = solution.sample
    ends, length = [step.end for step in solution.steps], len(sample.response_ids)
    verdicts = [shares.get(sample.response_ids[:end]) if end < length else graded(sample) for end in ends]
    return labelled(solution, _until_wrong(verdicts, wrong_to))


def graded(sample: Sample) -> float | None:
    """Returns the grader's verdict: 1 or 0, and None where the limit cut the response or grading failed."""
    known = sample.outcome is not None and sample.outcome is not Outcome.INVALID and not sample.truncated
    return float(sample.correct) if known else None


def share_right(samples: Sequence[Sample]) -> float | None:
    """Returns the share of graded completions that are right; None without any. One that could not be graded is no
    vote; one that the limit cut is wrong."""
    votes = [sample.correct for sample in samples if sample.outcome is not Outcome.INVALID]
    return sum(votes) / len(votes) if votes else None


def by_review(solution: Solution, review: str, tokens: int) -> Solution:
    """Returns the solution with the verdicts of a second model's review, which has so many ``tokens``. The last step's
    is the grader's where it has one. A review that cannot be read gives no step a verdict."""
    verdicts = list(judge_verdicts(review, len(solution.steps)))
    final = graded(solution.sample)
    if verdicts[0] is not None and final is not None:
        verdicts[-1] = final
    judged = labelled(solution, _until_wrong(verdicts, 0.0))
    return replace(judged, review=review, judge_tokens=tokens)


def agreement(solutions: Sequence[Solution]) -> float | None:
    """Returns the share of responses of which the second model's review says "all right" where the grader says so, and
    "not all" where it does not. None without a review that can be read of a response that is graded."""
    found = []
    for one in solutions:
        said = judge_verdicts(one.review, len(one.steps)) if one.review is not None else (None,)
        final = graded(one.sample)
        if said[0] is not None and final is not None:
            found.append(all(verdict == 1.0 for verdict in said) == (final == 1.0))
    return fmean(found) if found else None


def _until_wrong(verdicts: Sequence[float | None], wrong_to: float) -> list[float | None]:
    """Returns the verdicts without those after the first wrong one."""
    first = next((k for k, verdict in enumerate(verdicts) if _is_wrong(verdict, wrong_to)), len(verdicts))
    return [verdict if k <= first else None for k, verdict in enumerate(verdicts)]


def _is_wrong(verdict: float | None, wrong_to: float) -> bool:
    return verdict is not None and verdict <= wrong_to


def judge_messages(question: str, steps: Sequence[str]) -> list[dict[str, str]]:
    """Returns the chat that asks a second model for the first wrong step. ``steps``: the texts of a solution's."""
    listed = "\n\n".join(f"<step_{number}>\n{text.strip()}\n</step_{number}>" for number, text in enumerate(steps))
    request = _REQUEST.format(question=question.strip(), steps=listed, all_right=ALL_RIGHT)
    return [{"role": "user", "content": request}]


def judge_verdicts(reply: str, steps: int) -> tuple[float | None, ...]:
    r"""Reads the reply of a second model: one verdict a step.

    Its last ``\boxed{}`` counts. A reply without one, or with anything but the number of a step or -1, is no vote: all
    verdicts are None.

    >>> judge_verdicts(r"Step 1 adds wrongly. \boxed{1}", 3)
    (1.0, 0.0, None)
    >>> judge_verdicts(r"\boxed{-1}", 2), judge_verdicts(r"\boxed{7}", 2), judge_verdicts("No error.", 2)
    ((1.0, 1.0), (None, None), (None, None))
    """
    found = extract_boxed(reply)
    named = _number(found) if found is not None else None
    if named is None or not ALL_RIGHT <= named < steps:
        return (None,) * steps
    first = steps if named == ALL_RIGHT else named
    return tuple(1.0 if step < first else 0.0 if step == first else None for step in range(steps))


def _number(text: str) -> int | None:
    """Reads one whole number, a Unicode minus or a final period included; None for anything else."""
    plain = text.replace("\N{MINUS SIGN}", "-").strip(" $.")
    sign, digits = plain[:1], plain.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        return None
    return -int(digits) if sign == "-" else int(digits)
