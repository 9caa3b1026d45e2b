"""AIME 2024 and 2025, whose answers are integers. Rows: ``question`` or ``problem``, and ``answer``.

With 30 problems a year, a difference of a few points between two models is noise; report intervals.
"""

from __future__ import annotations

from .benchmark import Benchmark
from .math import BOXED

AIME = (
    Benchmark(
        "aime24", "AIME 2024, 30 problems", "aime24.jsonl", "math", BOXED, "HuggingFaceH4/aime_2024", split="train"
    ),
    Benchmark("aime25", "AIME 2025, 30 problems", "aime25.jsonl", "math", BOXED, "math-ai/aime25"),
)
