"""Makes the responses that supervised finetuning on text learns, from what the rows of a data set hold.

``task.teach=decision`` is the gold answer alone, in the form that the data set's prompt asks for:

=========== ==========================================================================
grader      response
=========== ==========================================================================
math, gsm8k ``\boxed{72}``
choice      ``\boxed{B}``
countdown   ``<answer>44 + (19 + 35)</answer>``, the expression of the row's solution
selfaware   the answer itself, or ``The answer is unknown.``
=========== ==========================================================================

``task.teach=solution`` is the row's reference solution. [ours] Where it marks its answer in another form than the
prompt asks for, the mark is changed, so that the model learns the form that it is asked for: GSM8K's last line
``#### 72`` becomes ``The answer is \boxed{72}.``, and its calculator marks ``<<48/2=24>>`` are left out. A solution
without any mark gets the response of ``decision`` as its last line. Countdown's solutions are the expression alone, so
both are the same there.

A data set's grader decides what may be learned: a question whose response it does not find correct is left out of
training, and so is one whose response has more tokens than ``rollout.max_new_tokens``. Both are counted. In MATH's
training set the grader refuses 2 of 7,500 solutions, in GSM8K's none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from carerl.tasks.rows.questions import Question

TEACH = ("solution", "decision")
UNKNOWN = "The answer is unknown."  # the words that SelfAware's prompt gives
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_HASHES = re.compile(r"\n*####[ \t]*([^\n]+?)[ \t]*\Z")
_MARK = re.compile(r"\\(?:f?boxed|fbox)\b|</answer>")


@dataclass(frozen=True)
class TaughtRows:
    """Holds the responses to learn, and what was left out. ``targets``: token ids by question. ``without``: questions
    that have no response. ``wrong``: those whose response is not graded as correct. ``too_long``: (question, tokens) of
    responses of more than ``room`` tokens, the longest first. ``long_prompts``: the same of prompts that are too long;
    ``asked``: questions that an evaluation asks. Both are of labelled traces alone."""

    teach: str
    room: int
    questions: int
    targets: dict[str, tuple[int, ...]] = field(repr=False)
    without: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    too_long: tuple[tuple[str, int], ...] = ()
    long_prompts: tuple[tuple[str, int], ...] = ()
    asked: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Returns plain values for a file. What only traces leave out is named where they did."""
        left_out = {"wrong": len(self.wrong), "too_long": len(self.too_long)}
        others = {"without": self.without, "long_prompts": self.long_prompts, "asked": self.asked}
        left_out |= {name: len(found) for name, found in others.items() if found}
        return {"teach": self.teach, "questions": self.questions, "taught": len(self.targets), **left_out}

    def left_out(self) -> list[str]:
        """Returns how many questions were left out for each reason, in words, with the name of one."""
        reasons = (
            ("that an evaluation asks", self.asked),
            ("whose prompt is longer than task.max_prompt_tokens", [name for name, _ in self.long_prompts]),
            ("without a solution", self.without),
            (f"with more than {self.room:,} tokens", [name for name, _ in self.too_long]),
            ("that the grader does not find correct", self.wrong),
        )
        return [f"{len(found):,} {reason} ({found[0]})" for reason, found in reasons if found]


def response(question: Question, teach: str) -> str:
    r"""Returns the text of the response to learn; '' for a question that has none.

    >>> from carerl.grading import Gold
    >>> row = Question("q", "How many?", Gold(("3",)), "gsm8k", solution="1+2 = <<1+2=3>>3 clips\n#### 3")
    >>> response(row, "solution")
    '1+2 = 3 clips\nThe answer is \\boxed{3}.'
    >>> response(row, "decision")
    '\\boxed{3}'
    """
    if teach == "decision" or question.grader == "countdown":
        return _decision(question)
    if not question.solution:
        return ""
    text = _HASHES.sub(r"\nThe answer is \\boxed{\1}.", _CALCULATOR.sub("", question.solution))
    return text if _MARK.search(text) else f"{text}\n{_decision(question)}"


def _decision(question: Question) -> str:
    if not question.gold.answerable:
        return UNKNOWN
    if question.grader == "countdown":
        solution = question.solution
        return solution if not solution or _MARK.search(solution) else f"<answer>{solution}</answer>"
    answer = question.gold.accepted[0]
    return answer if question.grader == "selfaware" else f"\\boxed{{{answer}}}"


def taught_rows(
    questions: Sequence[Question],
    teach: str,
    room: int,
    encode: Callable[[Sequence[str]], list[tuple[int, ...]]],
    correct: Callable[[Sequence[tuple[Question, tuple[int, ...]]]], list[bool]],
    long_prompts: Mapping[str, int] = MappingProxyType({}),
    cut: bool = False,
) -> TaughtRows:
    """Makes the responses to learn. ``encode`` turns texts into responses of token ids, end token included;
    ``correct`` grades such responses to their questions. ``long_prompts``: the tokens of prompts that are too long, by
    question; these questions are left out first. ``cut``: longer responses are not left out, and their first ``room``
    tokens are learned."""
    fit = [question for question in questions if question.id not in long_prompts]
    texts = [response(question, teach) for question in fit]
    has_one = [(question, text) for question, text in zip(fit, texts, strict=True) if text]
    encoded = encode([text for _, text in has_one])
    pairs = [(question, ids) for (question, _), ids in zip(has_one, encoded, strict=True)]
    long = [(question.id, len(ids)) for question, ids in pairs if len(ids) > room and not cut]
    fitting = [(question, ids) for question, ids in pairs if len(ids) <= room or cut]
    right = correct(fitting)
    return TaughtRows(
        teach,
        room,
        len(questions),
        {question.id: ids[:room] for (question, ids), is_right in zip(fitting, right, strict=True) if is_right},
        tuple(question.id for question, text in zip(fit, texts, strict=True) if not text),
        tuple(question.id for (question, _), is_right in zip(fitting, right, strict=True) if not is_right),
        _longest_first(long),
        _longest_first(long_prompts.items()),
    )


def _longest_first(found: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(found, key=lambda pair: (-pair[1], pair[0])))
