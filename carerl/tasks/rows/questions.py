r"""A question as every data set here gives it, and the one schema that rows are read from.

================= =========================================================================================
field             meaning
================= =========================================================================================
``question``      the problem, without a prompt template (``problem`` is read too)
``answer``        the gold answer: text or number, a list of accepted ones, or an option's label or text (a whole
                  number that is neither counts the options from 0); of a whole solution (``... #### 2``,
                  ``... \boxed{2}``) what it marks; more than 500 characters are refused
``accepted``      a list: any of them is right, the first is the gold answer (instead of ``answer``, or beside it)
``solution``      a reference solution, which supervised finetuning may learn (:mod:`carerl.tasks.taught`); where no
                  answer is given, the content of its last ``\boxed{}`` is the answer
``id``            unique in its file; the row's place where it is missing
``choices``       options (``options`` and ``answer_choices`` are read too), in any of the forms of
                  :mod:`~carerl.tasks.rows.choices`
``answerable``    false: nobody can answer it, no answer is given, and abstaining is correct
``numbers``       Countdown's, each to be used once; ``target``: the value to reach (``answer`` is read too)
``grader``        one of :data:`~carerl.grading.GRADERS`; where missing it follows from the fields: ``choices``
                  -> choice, ``numbers`` -> countdown, ``answerable`` -> selfaware, else math
``system``        a system prompt of this row's own; refused where ``task.system_prompt`` says something else
``extra``         an object that may hold ``full_answer`` (all of an answer in several boxes), ``accepted_answers`` and
                  ``answers`` (any of them is right) and ``numbers``
================= =========================================================================================

A field that is null or empty is missing. Other fields are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from carerl.grading import GRADERS, Gold, extract_boxed, gold_answer

from .choices import find_choices, label_of, number_as_text, parse_choices
from .data import Row, as_row, text_field

UNANSWERABLE = "unanswerable"


@dataclass(frozen=True, slots=True)
class Question:
    """Holds one row. ``template``: the prompt template of its data set; ``system``: its own system prompt, or '';
    ``solution``: its reference solution as it stands in the row, or ''.

    >>> Question("q", "Largest?", Gold(("B",), (("A", "2"), ("B", "3"))), "choice").shown
    'Largest?\\nA. 2\\nB. 3'
    """

    id: str
    text: str
    gold: Gold
    grader: str
    template: str = "{question}"
    system: str = ""
    solution: str = ""

    @property
    def choices(self) -> tuple[tuple[str, str], ...]:
        return self.gold.choices

    @property
    def shown(self) -> str:
        """The text with its options, one a line, in their order."""
        return "\n".join([self.text, *(f"{label}. {text}" for label, text in self.gold.choices)])

    @property
    def gold_text(self) -> str:
        """The gold answer as a short text for people."""
        if not self.gold.answerable:
            return UNANSWERABLE
        return self.gold.accepted[0] if self.gold.accepted else str(self.gold.target)


def parse_question(value: Any, where: str, grader: str = "", template: str = "{question}") -> Question:
    """Reads a row in the schema of the module's docstring. ``grader``: the data set's grader, if it has one.

    Raises ValueError naming ``where`` (file and row) and the field.
    """
    row = as_row(value, where)
    text = text_field(row, where, "question", "problem")
    extra = row.get("extra") or {}
    if not isinstance(extra, dict):
        raise ValueError(f"{where}: 'extra' must be an object")
    choices = parse_choices(find_choices(row, where), where)
    numbers = _integers(row.get("numbers") or extra.get("numbers") or (), where, "numbers")
    answerable = row.get("answerable")
    if not (answerable is None or isinstance(answerable, bool)):
        raise ValueError(f"{where}: 'answerable' must be true or false, not {answerable!r}")
    grader = grader or str(row.get("grader") or _inferred(choices, numbers, answerable))
    if grader not in GRADERS:
        raise ValueError(f"{where}: 'grader' is {grader!r}; it must be one of {', '.join(GRADERS)}")
    target = None
    if numbers:
        asked = row.get("target") if row.get("target") is not None else row.get("answer")
        target = _integers([asked], where, "target")[0]
    given = _given(row, extra, where) if answerable is not False and not numbers else []
    found = [label_of(answer, choices, where) for answer in given] if choices else map(number_as_text, given)
    accepted = tuple(dict.fromkeys(_stated(answer, grader, where) for answer in found))
    gold = Gold(accepted, choices, numbers, target, answerable is not False)
    _check(gold, grader, where)
    system = row.get("system") or ""
    if not isinstance(system, str):
        raise ValueError(f"{where}: 'system' must be text")
    own = next((row[name] for name in ("id", "unique_id") if row.get(name) not in (None, "")), where)
    solution = row.get("solution")
    solution = solution.strip() if isinstance(solution, str) else ""
    return Question(str(own), text, gold, grader, template, system, solution)


def _inferred(choices: Any, numbers: Any, answerable: bool | None) -> str:
    return "choice" if choices else "countdown" if numbers else "math" if answerable is None else "selfaware"


def _given(row: Row, extra: Row, where: str) -> list[Any]:
    """Returns the accepted answers as they stand in the row, the gold answer first. Raises ValueError if a field that
    should be a list is not one, and for an answer that is true or false."""
    lists = [row.get("accepted"), extra.get("accepted_answers"), extra.get("answers")]
    if any(not isinstance(found, list | tuple | None) for found in lists):
        raise ValueError(f"{where}: 'accepted' (or 'answers') must be a list of answers: [\"12\"], and not \"12\"")
    given = [extra.get("full_answer") or row.get("answer"), *(value for found in lists for value in found or ())]
    every = [text for value in given for text in (value if isinstance(value, list) else [value])]
    if any(isinstance(value, bool) for value in every):
        raise ValueError(f'{where}: \'answer\' is true or false, which is no text; write it as one: "true", or "yes"')
    found = [text for text in every if _filled(text)]
    if not found and isinstance(row.get("solution"), str):
        found = [box for box in [extract_boxed(row["solution"])] if _filled(box)]
    return found


def _stated(answer: str, grader: str, where: str) -> str:
    """Returns the value that a gold answer states. Raises ValueError naming the row if it states none."""
    try:
        return gold_answer(answer, grader)
    except ValueError as error:
        raise ValueError(f"{where}: 'answer' {error}") from error


def _filled(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number or (isinstance(value, str) and bool(value.strip()))


def _integers(values: Any, where: str, name: str) -> tuple[int, ...]:
    try:
        found = tuple(int(value) for value in values)
        if any(isinstance(value, bool) or float(value) != int(value) for value in values):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{where}: {name!r} must hold whole numbers, not {values!r}") from None
    return found


def _check(gold: Gold, grader: str, where: str) -> None:
    """Raises ValueError if the grader lacks a field that it needs."""
    defaults = {f.name: f.default for f in fields(Gold)}
    for name in GRADERS[grader].requires:
        if getattr(gold, name) == defaults[name]:
            raise ValueError(_missing(name, grader, where))
    if grader == "selfaware" and gold.answerable and not gold.accepted:
        raise ValueError(_missing("accepted", grader, where))


def _missing(name: str, grader: str, where: str) -> str:
    if name == "accepted":
        return f"{where}: no text in 'answer' (or 'accepted'), and no \\boxed{{}} in 'solution'"
    return f"{where}: no {name!r}, which grader {grader} needs"
