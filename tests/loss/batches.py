"""Random batches and a model small enough to differentiate twice: embeddings straight into a head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from carerl.algorithms import ALGORITHMS, Algorithm
from carerl.loss.batching import Normalisers, make_batch
from carerl.loss.head import FactoredLogits, TokenStatistics, TwoKinds, token_statistics
from carerl.loss.objective import AnchorTerm, Objective
from carerl.loss.streams import flatten
from carerl.loss.tally import ObjectiveOutput
from carerl.regularizers import REGULARIZERS
from carerl.types import Example, Group, Outcome, Sample, TokenBatch

V, D = 11, 5
LENGTHS = ((3, 1, 4, 2), (5, 2, 2, 1), (1, 6, 3, 3))  # response lengths, by group


def algorithm(name: str = "grpo", **settings: object) -> Algorithm:
    entry = ALGORITHMS[name]
    return entry.build(entry.config(**settings))


def objective(
    name: str = "none",
    beta: float = 0.0,
    estimator: str = "score",
    policy: Algorithm | None = None,
    anchor: AnchorTerm | None = None,
    **settings: float,
) -> Objective:
    """``policy``: the algorithm, GRPO with truncated mismatch weights by default."""
    entry = REGULARIZERS[name]
    penalty = entry.build(entry.config(**settings))
    return Objective(policy or algorithm(mismatch_cap=2.0), penalty, beta, estimator, anchor=anchor)


def groups(lengths: tuple[tuple[int, ...], ...] = LENGTHS, seed: int = 0) -> list[Group]:
    """One group per tuple of response lengths, with 0/1 rewards of both kinds in each group."""
    generator = torch.Generator().manual_seed(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, V, (n,), generator=generator).tolist())

    made = []
    for number, group in enumerate(lengths):
        example = Example(id=f"q{number}", prompt_ids=ids(2 + number % 3), gold="")
        samples = []
        for k, length in enumerate(group):
            logprobs = (-2 - 0.3 * torch.rand(length, generator=generator)).tolist()
            right = k % 2 == number % 2
            outcome = Outcome.CORRECT if right else Outcome.WRONG
            samples.append(
                Sample(example.id, ids(length), tuple(logprobs), False, (0, 0), outcome=outcome, reward=float(right))
            )
        made.append(Group(example, samples))
    return made


class Toy(nn.Module):
    """Hidden state of a position = tanh(embedding of its token + of the one before); tied to nothing."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Parameter(torch.randn(V, D, generator=generator, dtype=torch.float64).to(dtype))
        self.head_VD = nn.Parameter(torch.randn(V, D, generator=generator, dtype=torch.float64).to(dtype))

    def hidden(self, batch: TokenBatch) -> Tensor:
        """(N, D) states that predict the response tokens, picked by lengths."""
        embedded_BSD = self.embedding[batch.input_ids_BS]
        before_BSD = torch.cat([torch.zeros_like(embedded_BSD[:, :1]), embedded_BSD[:, :-1]], dim=1)
        hidden_BSD = (embedded_BSD + before_BSD).tanh()
        rows, columns = positions(batch)
        return hidden_BSD[rows, columns - 1]

    def statistics(
        self, batch: TokenBatch, chunk: int = 1000, ref: Toy | None = None, exact=None, anchor=None
    ) -> TokenStatistics:
        rows, columns = positions(batch)
        with torch.no_grad():
            reference = None if ref is None else FactoredLogits(ref.hidden(batch), ref.head_VD.detach())
        return token_statistics(
            FactoredLogits(self.hidden(batch), self.head_VD),
            batch.input_ids_BS[rows, columns],
            temperature=batch.temperature,
            chunk_tokens=chunk,
            reference=reference,
            exact=exact if batch.anchored_BT is None else TwoKinds(exact, anchor, batch.anchored_BT[batch.mask_BT]),
        )

    def gradient(self) -> Tensor:
        return torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None])


def positions(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Rows and columns of the response tokens in ``input_ids_BS``, row-major."""
    pairs = [
        (row, int(prompt) + t)
        for row, (prompt, length) in enumerate(zip(batch.prompt_lengths_B, batch.response_lengths_B, strict=True))
        for t in range(int(length))
    ]
    index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return index[:, 0], index[:, 1]


def streams_of(batch: TokenBatch, values_N: Tensor) -> Tensor:
    """Flat values put back at their places in a (B, T) stream."""
    stream = torch.zeros(batch.mask_BT.shape, dtype=values_N.dtype)
    stream[batch.mask_BT] = values_N.detach()
    return stream


def full_batch(
    ref: Toy,
    old: Toy | None,
    temperature: float = 1.0,
    lengths=LENGTHS,
    policy: Algorithm | None = None,
    made: list[Group] | None = None,
) -> TokenBatch:
    """Every stream filled: reference and old log-probs from models, the engine's a little beside the old ones."""
    batch = make_batch(made or groups(lengths), policy or algorithm(), temperature)
    scored = streams_of(batch, ref.statistics(batch).logprobs_N)
    changes: dict[str, Tensor] = {"ref_logprobs_BT": scored}
    if old is not None:
        old_BT = streams_of(batch, old.statistics(batch).logprobs_N)
        noise = torch.randn(old_BT.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        changes |= {"old_logprobs_BT": old_BT, "rollout_logprobs_BT": old_BT + 0.3 * noise * batch.mask_BT}
    return batch.with_streams(**changes)


def run(
    model: Toy, batch: TokenBatch, target: Objective, norms: Normalisers, ref: Toy | None = None, chunk: int = 1000
) -> ObjectiveOutput:
    """Forward and backward on one (micro-)batch; gradients are added to the model's."""
    exact, anchor = target.exact, target.anchor_exact
    used = ref if exact is not None or anchor is not None else None
    stats = model.statistics(batch, chunk, ref=used, exact=exact, anchor=anchor)
    out = target(stats, flatten(batch), norms)
    out.loss.backward()
    return out
