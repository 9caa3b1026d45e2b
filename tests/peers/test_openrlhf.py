"""Policy losses and the corrections for an engine that samples from another distribution, against OpenRLHF's
`PolicyLoss`. Its advantages are lines of a method that needs Ray actors and are not called here."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from tests.loss.batches import algorithm
from tests.peers.agreement import agree, distance
from tests.peers.token_case import Case

pytestmark = pytest.mark.peers

KEPT = {"drop_uniform_groups": False}
CAP = 1.25
SAME: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("grpo", {}, {"token_level_loss": False}),
    ("dapo", KEPT, {"clip_eps_high": 0.28}),
    ("gspo", {}, {"policy_loss_type": "gspo", "clip_eps_low": 3e-4, "clip_eps_high": 4e-4}),
    (
        "gspo",
        {"clip_low": 0.03, "clip_high": 0.04},
        {"policy_loss_type": "gspo", "clip_eps_low": 0.03, "clip_eps_high": 0.04},
    ),
]


def policy_step(openrlhf: Any, case: Case, **settings: Any) -> tuple[float, Tensor]:
    leaf_BT = case.leaf()
    loss, *_ = openrlhf.PolicyLoss(**settings)(
        leaf_BT,
        case.old_BT,
        case.advantages_BT,
        action_mask=case.mask_BT.double(),
        rollout_log_probs=case.rollout_BT,
    )
    return case.gradient(loss, leaf_BT)


@pytest.mark.parametrize(("name", "settings", "theirs"), SAME)
def test_policy_losses_equal_openrlhfs(openrlhf, name, settings, theirs):
    case = Case(algorithm(name, **settings))
    value, gradient_BT, clipped = case.carerl()
    their_value, their_gradient_BT = policy_step(openrlhf, case, **theirs)
    assert 0.05 < clipped < 0.99
    agree(f"OpenRLHF {name}: loss", value, their_value)
    agree(f"OpenRLHF {name}: gradient in log-probs", gradient_BT, their_gradient_BT)


@pytest.mark.parametrize(
    ("correction", "mode", "low"), [("truncate", "clip", 0.0), ("mask", "mask", 1 / CAP)], ids=["truncate", "mask"]
)
def test_mismatch_corrections_of_tokens_equal_openrlhfs(openrlhf, correction, mode, low):
    case = Case(algorithm("dapo", mismatch_cap=CAP, mismatch_correction=correction, **KEPT))
    value, gradient_BT, _ = case.carerl()
    theirs = {"is_correction_level": "token", "is_correction_mode": mode, "is_correction_threshold": [low, CAP]}
    their_value, their_gradient_BT = policy_step(openrlhf, case, clip_eps_high=0.28, **theirs)
    agree(f"OpenRLHF mismatch, {correction}: loss", value, their_value)
    agree(f"OpenRLHF mismatch, {correction}: gradient in log-probs", gradient_BT, their_gradient_BT)
    uncorrected = Case(algorithm("dapo", **KEPT)).carerl()[1]
    assert distance(gradient_BT, uncorrected) > 0.1


def test_departure_tokens_of_a_kept_response_are_truncated(openrlhf):
    """Both keep a response by the geometric mean of its weights. OpenRLHF then weighs its tokens by exp(old − rollout)
    without a bound, carerl by at most the cap: ours = OpenRLHF's · min(1, cap / weight), token by token."""
    case = Case(algorithm("dapo", mismatch_cap=CAP, mismatch_correction="sequence_mask", **KEPT))
    _, gradient_BT, _ = case.carerl()
    theirs = {"is_correction_level": "seq", "is_correction_mode": "mask", "is_correction_threshold": [1 / CAP, CAP]}
    _, their_gradient_BT = policy_step(openrlhf, case, clip_eps_high=0.28, **theirs)
    weight_BT = (case.old_BT - case.rollout_BT).exp()
    agree("departure: kept responses' weights", gradient_BT, their_gradient_BT * (CAP / weight_BT).clamp(max=1))
    dropped_B = (their_gradient_BT == 0).all(dim=1)
    assert 0 < int(dropped_B.sum()) < len(dropped_B) and distance(gradient_BT, their_gradient_BT) > 0.05


def test_departure_an_empty_response_counts_as_a_response(openrlhf):
    """As in ``test_verl.py``: ours · B = OpenRLHF's · (B − 1)."""
    case = Case(algorithm("grpo"), lengths=((3, 1, 4, 2), (5, 2, 0, 1), (1, 6, 3, 3)))
    value, gradient_BT, _ = case.carerl()
    their_value, their_gradient_BT = policy_step(openrlhf, case, token_level_loss=False)
    agree("departure: empty response, OpenRLHF, loss", value * 12 / 11, their_value)
    agree("departure: empty response, OpenRLHF, gradient", gradient_BT * 12 / 11, their_gradient_BT)
