r"""A user's own file: one JSON object a line, in a file named ``.jsonl``, in the schema of
:mod:`~carerl.tasks.rows.questions`.

    {"question": "What is 1 + 1?", "answer": "2"}
    {"question": "A root of x^2 = 1?", "accepted": ["1", "-1"], "id": "roots"}
    {"question": "Which is a prime?", "choices": ["4", "5"], "answer": "B"}
    {"question": "Reach 24.", "numbers": [4, 6, 1], "target": 24}
    {"question": "What will win the lottery?", "answerable": false}
    {"question": "Convert 2 m to cm.", "answer": "200", "grader": "gsm8k", "system": "Be brief."}

Where ``answerable`` is false, abstaining is the correct response, in an evaluation and in training: it is rewarded as a
right answer is elsewhere. An abstention from a question that has an answer is not.

Its rows may have different graders; each gets the prompt template of its grader's data set. A file that is trained on
is not a copy of TruthfulQA: its rows are known by their ids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from carerl.tasks.rows.questions import Question

from .benchmark import Benchmark
from .countdown import TEMPLATE as COUNTDOWN_TEMPLATE
from .math import BOXED
from .multiple_choice import CHOICE
from .selfaware import TEMPLATE as SELFAWARE_TEMPLATE

TEMPLATES = {
    "math": BOXED,
    "gsm8k": BOXED,
    "choice": CHOICE,
    "countdown": COUNTDOWN_TEMPLATE,
    "selfaware": SELFAWARE_TEMPLATE,
}
NEVER_TRAINED_ON = re.compile(r"(?:truthfulqa|tqa25)-\d+")  # ids of TruthfulQA's rows


@dataclass(frozen=True)
class JsonlFile(Benchmark):
    """Describes a :class:`Benchmark` given by a path; its name is the file's, without ``.jsonl``."""

    def parse(self, row: Any, where: str) -> Question:
        question = super().parse(row, where)
        return replace(question, template=TEMPLATES.get(question.grader, "{question}"))


def jsonl_file(path: str) -> JsonlFile:
    place = Path(path).expanduser()
    return JsonlFile(place.stem, f"the file {path}", str(place.absolute()), "", "", trainable=True)
