"""Random log-probs of one batch's tokens, for peers whose losses are functions of tensors; float64."""

from __future__ import annotations

import torch
from torch import Tensor

from carerl.algorithms import Algorithm
from carerl.loss.batching import make_batch, normalisers
from carerl.loss.head import TokenStatistics
from carerl.loss.objective import Objective
from carerl.loss.streams import flatten
from tests.loss.batches import LENGTHS, objective, streams_of
from tests.peers.trl_steps import graded_groups


class Case:
    """``logprobs_BT`` of the policy; the old policy's, the engine's and the reference's beside it, and advantages."""

    def __init__(
        self,
        policy: Algorithm,
        lengths: tuple[tuple[int, ...], ...] = LENGTHS,
        off_policy: bool = True,
        spread: float = 0.3,
    ):
        self.policy = policy
        batch = make_batch(graded_groups(lengths), policy, 1.0)
        self.mask_BT = batch.mask_BT
        generator = torch.Generator().manual_seed(5)

        def beside(center_BT: Tensor, std: float) -> Tensor:
            noise_BT = torch.randn(self.mask_BT.shape, generator=generator, dtype=torch.float64)
            return (center_BT + std * noise_BT) * self.mask_BT

        self.logprobs_BT = beside(torch.tensor(-2.5), 0.5)
        self.old_BT = beside(self.logprobs_BT, spread) if off_policy else self.logprobs_BT
        self.rollout_BT = beside(self.old_BT, 0.3)
        self.ref_BT = beside(self.logprobs_BT, 0.5)
        assert batch.advantages_BT is not None
        self.advantages_BT = batch.advantages_BT.double()
        self.batch = batch.with_streams(
            old_logprobs_BT=self.old_BT if off_policy else None,
            rollout_logprobs_BT=self.rollout_BT,
            ref_logprobs_BT=self.ref_BT,
            advantages_BT=self.advantages_BT,
        )

    def leaf(self) -> Tensor:
        return self.logprobs_BT.clone().requires_grad_()

    def carerl(self, target: Objective | None = None) -> tuple[float, Tensor, float]:
        """Loss, its gradient in the log-probs (B, T), and how many of the tokens are clipped."""
        logprobs_N = self.logprobs_BT[self.mask_BT].requires_grad_()
        stats = TokenStatistics(logprobs_N, entropy_N=torch.zeros_like(logprobs_N))
        out = (target or objective(policy=self.policy))(
            stats, flatten(self.batch), normalisers(self.batch, self.policy)
        )
        out.loss.backward()
        assert logprobs_N.grad is not None
        clipped, tokens = out.sums["train/clip_fraction"]
        return float(out.loss.detach()), streams_of(self.batch, logprobs_N.grad), clipped / tokens

    @staticmethod
    def gradient(loss: Tensor, leaf_BT: Tensor) -> tuple[float, Tensor]:
        (gradient_BT,) = torch.autograd.grad(loss, leaf_BT)
        return float(loss.detach()), gradient_BT
