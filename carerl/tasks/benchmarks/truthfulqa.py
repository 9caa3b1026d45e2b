"""TruthfulQA (Lin et al., arXiv 2109.07958): multiple choice with one true option (MC1), by sampling.

Its authors ask that it never appear in training corpora; training on it is refused. Options keep the file's order. The
hub's rows (``mc1_targets``) list the true one first, so they are put into a fixed pseudo-random order. ``truthfulqa``
is the version of the literature (817 questions), ``truthfulqa_2025`` the authors' revision (790). In the revision 17
questions have an option without text: it is left out, and those after it move up a letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carerl.tasks.rows.choices import LABELS
from carerl.tasks.rows.data import Row

from .benchmark import Benchmark
from .multiple_choice import CHOICE, fixed_order

REFUSAL = "the authors of TruthfulQA ask that it never be trained on"


def translate(row: Row) -> Row:
    targets = row.get("mc1_targets")
    if isinstance(targets, dict):
        texts, right = list(targets.get("choices") or ()), list(targets.get("labels") or ())
        if len(texts) != len(right) or right.count(1) != 1:
            return {**row, "choices": [], "answer": None}  # refused with its place
        order = fixed_order(str(row.get("question")), texts)
        return {**row, **_labelled([texts[i] for i in order], order.index(right.index(1)))}
    options = row.get("choices")
    if not isinstance(options, list) or not all(isinstance(option, dict) for option in options):
        return row
    named = [i for i, option in enumerate(options) if option.get("label") == row.get("answer")]
    if len(named) != 1 or all(option.get("text") for option in options):
        return row
    return {**row, **_labelled([option.get("text") for option in options], named[0])}


def _labelled(texts: Sequence[str | None], right: int) -> dict[str, Any]:
    """Returns ``choices`` and ``answer`` for the options that have a text, labelled A, B, C … in their order."""
    kept = [(text, i == right) for i, text in enumerate(texts) if text]
    choices = [{"label": label, "text": text} for label, (text, _) in zip(LABELS, kept, strict=False)]
    answer = next((c["label"] for c, (_, is_right) in zip(choices, kept, strict=False) if is_right), None)
    return {"choices": choices, "answer": answer}


TRUTHFULQA = (
    Benchmark("truthfulqa", "TruthfulQA MC1, 817 questions", "truthfulqa.jsonl", "choice", CHOICE,
              "truthfulqa/truthful_qa", "multiple_choice", "validation", translate, refusal=REFUSAL),
    Benchmark("truthfulqa_2025", "TruthfulQA MC1 as revised in 2025, 790 questions", "truthfulqa_2025.jsonl", "choice",
              CHOICE, translate=translate, refusal=REFUSAL),
)  # fmt: skip
