"""GSM8K (Cobbe et al., arXiv 2110.14168): word problems of grade school whose answers are integers.

The hub's rows end the solution with ``#### 1,234``; the shared rows have the number, without commas, in ``answer``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from carerl.tasks.rows.data import Row

from .benchmark import Benchmark, TextConfig
from .math import BOXED


def translate(row: Row) -> Row:
    answer = row.get("answer")
    if not isinstance(answer, str) or "####" not in answer:
        return row
    return {**row, "answer": answer.rpartition("####")[2].strip().replace(",", ""), "solution": answer}


_HUB = ("openai/gsm8k", "main")

GSM8K = (
    Benchmark("gsm8k_train", "GSM8K, 7,473 training problems", "gsm8k_train.jsonl", "gsm8k", BOXED, *_HUB, "train",
              translate, trainable=True),
    Benchmark("gsm8k", "GSM8K, 1,319 test problems", "gsm8k_test.jsonl", "gsm8k", BOXED, *_HUB, "test", translate),
)  # fmt: skip


@dataclass
class Gsm8kConfig(TextConfig):
    """Trains on GSM8K's training problems, evaluates on its test problems."""

    name: str = "gsm8k"
    train: str = "gsm8k_train"
    benchmarks: list[str] = field(default_factory=lambda: ["gsm8k"])
