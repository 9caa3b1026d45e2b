"""How rows are cut into micro-batches."""

from __future__ import annotations

import random

import pytest

from carerl.backends.learners.split import longest_first, micro_batches


@pytest.mark.parametrize("seed", range(20))
def test_parts_keep_both_bounds_and_are_no_smaller_than_they_must(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [max(1, round(rng.lognormvariate(4, 1))) for _ in range(rng.randint(1, 60))]
    most_rows, most_tokens = rng.randint(1, 12), rng.randint(20, 600)
    rows = longest_first(rng.sample(range(len(lengths)), rng.randint(1, len(lengths))), lengths)
    found = micro_batches(rows, lengths, most_rows, most_tokens)
    assert [row for part in found for row in part] == rows
    for part, after in zip(found, [*found[1:], []], strict=True):
        longest = max(lengths[row] for row in part)
        assert len(part) <= most_rows and (longest * len(part) <= most_tokens or len(part) == 1)
        assert not after or len(part) == most_rows or longest * (len(part) + 1) > most_tokens


def test_sorted_rows_are_padded_little() -> None:
    """Of 16 lognormal rows a part, in the order in which they came, two thirds are padding."""
    rng = random.Random(1)
    lengths = [max(1, round(rng.lognormvariate(5, 0.8))) for _ in range(256)]

    def padded(parts: list[list[int]]) -> float:
        return sum(len(part) * max(lengths[row] for row in part) for part in parts) / sum(lengths)

    came = [list(range(k, k + 16)) for k in range(0, 256, 16)]
    assert padded(came) > 3
    assert padded(micro_batches(longest_first(range(256), lengths), lengths, 16, 10**9)) < 1.3
