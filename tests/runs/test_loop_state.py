"""What the loop carries from step to step. That a run gone on with equals one that never stopped is tests/e2e's."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from carerl.config.load import load
from carerl.loss.adaptive import adapted_beta
from carerl.runs.loop_state import LoopState


def config(*words: str):
    return load(["recipe=care_grpo_tiny", *words])


def test_the_first_state_follows_from_the_settings():
    loop = LoopState.after(config("regularizer.beta=2"), 0, {})
    assert asdict(loop) == {"position": 32, "informative": 1.0, "beta": 2.0, "entropy_bonus": 0.0}
    # a checkpoint that holds no state of the loop: every step took 32 prompts
    assert LoopState.after(config(), 10, {"step": 10}).position == 11 * 32


def test_a_checkpoint_says_where_the_loop_was():
    kept = {"position": 500, "informative": 0.4, "beta": 7.0, "entropy_bonus": 0.3}
    assert asdict(LoopState.after(config("regularizer.target_kl=.1"), 9, {"loop": kept})) == kept


def test_a_strength_without_target_stays():
    loop = LoopState.after(config(), 0, {})
    metrics = {"regularizer/reverse_kl": 9.0, "train/entropy": 0.0}
    assert loop.adapt(config(), metrics) == {"regularizer/beta": 4.0}
    assert (loop.beta, loop.entropy_bonus) == (4.0, 0.0)


def test_a_step_logs_the_strengths_that_it_had():
    settings = config("regularizer.target_kl=.1", "algorithm.entropy_target=.2", "algorithm.entropy_step=.01")
    loop = LoopState.after(settings, 0, {})
    metrics = {"regularizer/reverse_kl": 0.5, "train/entropy": 0.1}
    assert loop.adapt(settings, metrics) == {"regularizer/beta": 4.0, "train/entropy_bonus": 0.0}
    assert (loop.beta, loop.entropy_bonus) == (pytest.approx(4.0 * 1.02), pytest.approx(0.01))
    assert loop.adapt(settings, {}) == {"regularizer/beta": loop.beta, "train/entropy_bonus": 0.01}, "nothing measured"


def test_beta_finds_the_strength_that_holds_the_target():
    """A policy whose divergence is 1/beta: the target .05 is held at beta = 20."""
    beta = 1.0
    for _ in range(400):
        beta = adapted_beta(beta, measured=1 / beta, target=0.05, gain=0.1)
    assert beta == pytest.approx(20.0, rel=1e-3)


def test_a_measurement_that_is_no_number_moves_nothing():
    assert adapted_beta(2.0, float("nan"), target=0.1, gain=0.1) == 2.0
    assert adapted_beta(2.0, float("inf"), target=0.1, gain=0.1) == 2.0
