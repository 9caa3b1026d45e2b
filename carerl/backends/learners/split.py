"""Deals the rows of a batch to ranks, and cuts them into micro-batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor


def deal(lengths_B: Tensor, parts: Iterable[Sequence[int]], ranks: int) -> list[int]:
    """Returns the rank of each row.

    ``lengths_B``: tokens of each row. ``parts``: the rows of each minibatch, in order. A row that is in several stays
    on one rank, so that what the rank knows of it (old log-probs, the reference's hidden states) stays there too. Every
    part is dealt out evenly by itself, because all ranks wait for each other in each of them: its rows go, longest
    first, to the rank with the fewest tokens of that part so far. Rows that are in no part are dealt out last.
    """
    lengths = lengths_B.tolist()
    owners = [-1] * len(lengths)
    for part in (*parts, range(len(lengths))):
        load = [0] * ranks
        for row in part:
            if owners[row] >= 0:
                load[owners[row]] += lengths[row]
        for row in longest_first([row for row in part if owners[row] < 0], lengths):
            owners[row] = load.index(min(load))
            load[owners[row]] += lengths[row]
    return owners


def shares(rows: Iterable[int], owners: Sequence[int], lengths_B: Tensor, ranks: int) -> list[list[int]]:
    """Returns each rank's rows of ``rows``, longest first: consecutive rows have similar lengths, so that micro-batches
    have little padding."""
    found: list[list[int]] = [[] for _ in range(ranks)]
    for row in longest_first(rows, lengths_B.tolist()):
        found[owners[row]].append(row)
    return found


def longest_first(rows: Iterable[int], lengths: Sequence[int]) -> list[int]:
    """Returns rows by falling length, and by number where they are equally long."""
    return sorted(rows, key=lambda row: (-lengths[row], row))


def micro_batches(rows: Sequence[int], lengths: Sequence[int], most_rows: int, most_tokens: int) -> list[list[int]]:
    """Cuts rows that come longest first into parts of at most ``most_rows`` rows and ``most_tokens`` tokens, padding
    counted too. A row that is longer than that is a part by itself. ``lengths``: tokens of every row of the batch."""
    found, start = [], 0
    while start < len(rows):
        stop = start + max(1, min(most_rows, most_tokens // lengths[rows[start]]))
        found.append(list(rows[start:stop]))
        start = stop
    return found
