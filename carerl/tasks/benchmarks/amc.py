"""AMC 2023: 40 problems whose answers are integers; some copies write them 27.0.

With so few problems, report intervals, as for :mod:`~carerl.tasks.benchmarks.aime`.
"""

from __future__ import annotations

from .benchmark import Benchmark
from .math import BOXED

AMC = (Benchmark("amc23", "AMC 2023, 40 problems", "amc23.jsonl", "math", BOXED, "math-ai/amc23"),)
