"""What waits in host memory with ``learner.activation_offload``. The gradients are compared in ``test_sharding.py``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carerl.backends.learners import layers
from carerl.backends.learners.layers import offload_activations


class Small(nn.Module):
    """Saves an activation, a weight and the reference's head for its backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(40, 50))
        self.frozen_ref_head_VD: Tensor | None = torch.randn(60, 50)

    def forward(self, x: Tensor) -> Tensor:
        hidden = (x @ self.weight).exp()  # exp saves its result
        return (hidden @ self.frozen_ref_head_VD.T).sum()  # type: ignore[union-attr]


def test_activations_wait_on_the_host_and_weights_and_the_references_head_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved: list[tuple[int, ...]] = []
    back = layers._back

    def watched(packed: Any) -> Tensor:
        if not isinstance(packed, Tensor):
            moved.append(tuple(packed[1].shape))
        return back(packed)

    monkeypatch.setattr(layers, "_back", watched)
    model = Small()
    x = torch.randn(30, 40, requires_grad=True)
    model(x).backward()
    expected = model.weight.grad
    model.weight.grad = None
    offload_activations(model)
    model(x).backward()
    assert expected is not None and model.weight.grad is not None
    torch.testing.assert_close(model.weight.grad, expected, rtol=0, atol=0)
    assert sorted(set(moved)) == [(30, 40), (30, 50)], "the input and exp's result"
