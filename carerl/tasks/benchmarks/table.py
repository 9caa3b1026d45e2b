"""The data sets by name. To add one, write a file with a :class:`Benchmark` and add a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carerl.tasks.rows.questions import Question

from ..base import VALIDATION
from .aime import AIME
from .amc import AMC
from .benchmark import Benchmark
from .commonsenseqa import COMMONSENSEQA
from .countdown import COUNTDOWN
from .gsm8k import GSM8K
from .jsonl import NEVER_TRAINED_ON, jsonl_file
from .math import MATH
from .openbookqa import OPENBOOKQA
from .selfaware import SELFAWARE
from .truthfulqa import REFUSAL, TRUTHFULQA

# parts of one data set stand in one tuple
DATA_SETS = (MATH, GSM8K, SELFAWARE, TRUTHFULQA, COMMONSENSEQA, OPENBOOKQA, AIME, AMC, COUNTDOWN)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for parts in DATA_SETS for benchmark in parts}


def trained_suites(settings: Mapping[str, Any]) -> frozenset[str]:
    """Returns the suites that are of the data set that a task trains on; empty if it trains on none. ``settings``: the
    task's."""
    train = str(settings.get("train") or "")
    own = {part.name for parts in DATA_SETS for part in parts if train in {part.name for part in parts}}
    return frozenset({*own, find_benchmark(train).name, VALIDATION}) if train else frozenset()


def trainable_part(suite: str) -> str:
    """Returns the data set to train on, or to hold questions out of, that is of the same data as a suite; '' if there
    is none, or the suite is of no data set that has a name here."""
    parts = next((parts for parts in DATA_SETS if suite in {part.name for part in parts}), ())
    return next((part.name for part in parts if part.trainable and part.name != suite), "")


def find_benchmark(name: str) -> Benchmark:
    """Returns a data set by its name, or by the path of a ``.jsonl`` file. Raises ValueError."""
    if name.endswith(".jsonl"):
        return jsonl_file(name)
    if name not in BENCHMARKS:
        raise ValueError(f"there is no data set {name!r}: use a .jsonl file, or one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def training_questions(name: str, data_dir: str = "", revisions: Sequence[str] = ()) -> list[Question]:
    """Reads the rows of a data set to train on. Raises ValueError for one that must not be trained on."""
    benchmark = find_benchmark(name)
    if not benchmark.trainable:
        raise ValueError(f"{name} cannot be trained on: {benchmark.refusal}")
    questions = benchmark.load(data_dir, revisions)
    for question in questions:
        if NEVER_TRAINED_ON.fullmatch(question.id):
            raise ValueError(f"{name} cannot be trained on: it holds {question.id}, and {REFUSAL}")
    return questions
