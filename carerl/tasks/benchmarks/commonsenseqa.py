"""CommonsenseQA (Talmor et al., arXiv 1811.00937): five options. The official test split has no labels, so models are
evaluated on the development split.

Rows: the shared schema; the hub's (``choices`` of two lists, ``answerKey``); the authors' file (``question.stem``,
``question.choices``, ``answerKey``).
"""

from __future__ import annotations

from carerl.tasks.rows.data import Row

from .benchmark import Benchmark
from .multiple_choice import CHOICE


def translate(row: Row) -> Row:
    """Takes ``answerKey`` as the answer; reads a stem and options inside ``question``, or a stem in
    ``question_stem``."""
    found = dict(row)
    asked = row.get("question")
    if isinstance(asked, dict):
        found |= {"question": asked.get("stem"), "choices": asked.get("choices")}
    elif row.get("question_stem"):
        found["question"] = row["question_stem"]
    if "answerKey" in row:
        found["answer"] = row["answerKey"]
    return found


_HUB = ("tau/commonsense_qa", "")

COMMONSENSEQA = (
    Benchmark("commonsenseqa_train", "CommonsenseQA, 9,741 training questions", "commonsenseqa_train.jsonl", "choice",
              CHOICE, *_HUB, "train", translate, trainable=True),
    Benchmark("commonsenseqa", "CommonsenseQA, 1,221 development questions", "commonsenseqa_dev.jsonl", "choice",
              CHOICE, *_HUB, "validation", translate),
)  # fmt: skip
