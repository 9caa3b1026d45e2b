"""OpenBookQA (Mihaylov et al., arXiv 1809.02789): four options. Rows: the shared schema, and the hub's
(``question_stem``, ``choices`` of two lists, ``answerKey``)."""

from __future__ import annotations

from dataclasses import dataclass, field

from .benchmark import Benchmark, TextConfig
from .commonsenseqa import translate
from .multiple_choice import CHOICE

_HUB = ("allenai/openbookqa", "main")

OPENBOOKQA = (
    Benchmark("openbookqa_train", "OpenBookQA, 4,957 training questions", "openbookqa_train.jsonl", "choice", CHOICE,
              *_HUB, "train", translate, trainable=True),
    Benchmark("openbookqa", "OpenBookQA, 500 test questions", "openbookqa_test.jsonl", "choice", CHOICE, *_HUB, "test",
              translate),
)  # fmt: skip


@dataclass
class OpenBookQAConfig(TextConfig):
    """Trains on OpenBookQA's training questions, evaluates on its test questions."""

    name: str = "openbookqa"
    train: str = "openbookqa_train"
    benchmarks: list[str] = field(default_factory=lambda: ["openbookqa"])
