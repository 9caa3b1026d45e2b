r"""MATH (Hendrycks et al., arXiv 2103.03874): competition mathematics with a boxed answer; and MATH-500, the part of
its test set that PRM800K kept for testing (Lightman et al., arXiv 2305.20050).

Both read the shared schema and the hub's (``problem``, ``solution``, on MATH-500 also ``answer``). Without an answer,
the last box of the solution is the answer. 20 of MATH's answers stand in several boxes; the hub's rows give the last
part.
"""

from __future__ import annotations

from .benchmark import Benchmark

BOXED = "{question}\n\nPlease reason step by step, and put your final answer within \\boxed{}."

_HUB = "DigitalLearningGmbH/MATH-lighteval"

MATH = (
    Benchmark(
        "math_train",
        "MATH, 7,500 training problems",
        "math_train.jsonl",
        "math",
        BOXED,
        _HUB,
        split="train",
        trainable=True,
    ),
    Benchmark("math_test", "MATH, 5,000 test problems", "math_test.jsonl", "math", BOXED, _HUB),
    Benchmark("math500", "MATH-500", "math500.jsonl", "math", BOXED, "HuggingFaceH4/MATH-500"),
)
