"""The data sets by name. To add one, write a file with a :class:`Benchmark` and add a line here."""

from __future__ import annotations

from collections.abc import Sequence

from carerl.tasks.rows.questions import Question

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

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        *MATH, *GSM8K, *SELFAWARE, *TRUTHFULQA, *COMMONSENSEQA, *OPENBOOKQA, *AIME, *AMC, *COUNTDOWN,
    )
}  # fmt: skip


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
