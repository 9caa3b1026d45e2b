"""Run directories made from nothing, with numbers that a test can derive by hand."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from carerl.runs.jsonl import JsonlTracker
from carerl.runs.tables import write_evaluation, write_rollouts

BASE = {
    "eval/accuracy": 0.315,
    "eval/maj": 0.410,
    "calibration/facts_ece": 0.031,
    "calibration/answer_ece": 0.029,
    "calibration/unknowable_f1": 0.926,
    "eval/entropy": 0.191,
    "eval/kl_per_sequence": 0.0,
    "calibration/question_ece": 0.064,
    "calibration/facts_ece_floor": 0.026,
}
QUESTIONS = {"all": 12, "between": 4}  # asked by the evaluations of fill_run


@dataclass
class FakeEvaluation:
    metrics: dict[str, float]
    reliability: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    intervals: dict[str, Any] = field(default_factory=dict)


def config(recipe: str, seed: int, regularizer: str = "none", **regularizer_settings: Any) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "description": f"{regularizer} on the tiny world",
        "kind": "rl",
        "seed": seed,
        "steps": 200,
        "prompts_per_step": 32,
        "task": {"name": "tiny", "train_k": 3},
        "algorithm": {"name": "grpo", "group_size": 8, "minibatches": 2},
        "regularizer": {"name": regularizer, **regularizer_settings},
        "reward": {"name": "correct"},
        "model": {"path": f"cache/base-{seed}", "base_recipe": "base_tiny"},
        "rollout": {"engine": "vllm", "temperature": 1.0, "max_new_tokens": 8, "threads": seed % 2},
        "learner": {"optimizer": {"lr": 0.001}, "schedule": {"name": "linear"}, "threads": 0},
        "evaluation": {"samples": 16, "temperature": 1.0, "seed": 12345},
        "tracking": {"wandb": "off", "wandb_project": "carerl"},
        "runs_dir": "runs",
    }


def make_run(
    parent: Path,
    settings: dict[str, Any],
    final: dict[str, float] | None,
    base: dict[str, float] | None = None,
    *,
    status: str = "completed",
    stamp: str = "20261121-100000",
    suffix: str = "ab12",
) -> Path:
    """A run directory with config.yaml, and summary.json unless ``final`` is None."""
    run = parent / f"{settings['recipe']}-s{settings['seed']}-{stamp}-{suffix}"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    if final is not None:
        summary = {
            "recipe": settings["recipe"],
            "seed": settings["seed"],
            "status": status,
            "steps": settings["steps"],
            "base": dict(BASE) if base is None else base,
            "final": final,
            "seconds": 75.0,
            "run_dir": str(run),
        }
        (run / "summary.json").write_text(json.dumps(summary))
    return run


def bins(gap: float, count: int = 40) -> list[dict[str, float]]:
    """Ten equal bins, each overconfident by ``gap``: their ECE is ``gap``."""
    return [
        {
            "low": i / 10,
            "high": (i + 1) / 10,
            "confidence": i / 10 + 0.05,
            "accuracy": i / 10 + 0.05 - gap,
            "count": count * (i + 1),
        }
        for i in range(1, 10)
    ]


def evaluation(share: float, gap: float, questions: int) -> FakeEvaluation:
    metrics = {name: value * (1 - share) + 0.9 * share for name, value in BASE.items()}
    metrics |= {"calibration/facts_ece": gap, "calibration/answer_ece": 0.028, "calibration/facts_ece_floor": 0.026}
    rows = [{"id": f"q{i}", "share": 0.5} for i in range(questions)]
    return FakeEvaluation(metrics, {"facts": bins(gap), "answer": bins(0.028)}, rows)


def fill_run(run: Path, steps: int = 200, seed: int = 0) -> None:
    """Curves, evaluations and a rollout table, shaped as those of a real run."""
    rng = np.random.default_rng(seed)
    tracker = JsonlTracker(run / "metrics.jsonl")
    gaps = {0: 0.03, steps // 2: 0.04, steps: 0.05}
    evaluations = {
        step: evaluation(step / steps, gap, QUESTIONS["all" if step in (0, steps) else "between"])
        for step, gap in gaps.items()
    }
    tracker.log(0, evaluations[0].metrics)
    for step in range(1, steps + 1):
        level = 0.32 + 0.63 / (1 + math.exp(-(step - 60) / 18))
        reward = float(np.clip(level + rng.normal(0, 0.03), 0, 1))
        parts = {
            "generate": 0.12 + 0.02 * rng.random(),
            "reward": 0.01,
            "reference": 0.05,
            "train": 0.3 + 0.03 * rng.random(),
            "sync": 0.02,
        }
        tracker.log(
            step,
            {
                "rollout/reward": reward,
                "rollout/accuracy": reward,
                "train/entropy": 0.2 - 0.16 * level + 0.005 * rng.random(),
                "regularizer/reverse_kl": 1.2 * (level - 0.32) + 0.02 * rng.random(),
                "regularizer/value": 0.5 * (level - 0.32),
                "rollout/mismatch_mean": 1e-7 * (1 + rng.random()),
                "rollout/mismatch_q999": 2e-6 * (1 + rng.random()),
                "rollout/mismatch_max": 4e-6 * (1 + rng.random()),
                "rollout/truncated_fraction": 0.02 * rng.random(),
                "rollout/unparsed_fraction": 0.01 * rng.random(),
                "rollout/zero_variance_fraction": level**3,
                "train/grad_norm": 0.4 + 0.2 * rng.random(),
                "time/step": sum(parts.values()) + 0.04,
                **{f"time/{name}": seconds for name, seconds in parts.items()},
                "time/tokens_per_second": 18000.0,
                **(
                    {"sync/probe_mean": 1e-7, "sync/probe_q999": 1e-6, "sync/probe_max": 2e-6} if step % 10 == 0 else {}
                ),
            },
        )
        if step in evaluations:
            tracker.log(step, evaluations[step].metrics)
    tracker.close()
    sampling = {"every": steps // 2, "samples": 16, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "seed": 12345}
    for step, found in evaluations.items():
        write_evaluation(run / "evaluations", step, found, sampling)
    rows = []
    for i in range(16):
        right = i % 3 != 0
        rows.append(
            {
                "step": steps,
                "example_id": f"q{i // 2}",
                "sample": i % 2,
                "prompt": "Q 3 +4 *2 +9 =",
                "response": "C 3 7 4 3 A 3 EOS" if right else "D 3 7 <9> & A 8 EOS",
                "gold": "3",
                "answer": "3" if right else "8",
                "outcome": "correct" if right else "wrong",
                "correct": right,
                "reward": float(right),
                "advantage": 0.66 if right else -1.3,
                "confidence": None,
                "tokens": 7,
                "mean_logprob": -0.12,
                "weight_version": steps - 1,
            }
        )
    write_rollouts(run / "rollouts" / f"step_{steps:06d}.parquet", rows)


# percent right of the text benchmarks, F1 of SelfAware, hallucination and ECE of TruthfulQA
TEXT = {
    "eval/math500/accuracy": 0.41,
    "eval/math500/maj": 0.45,
    "eval/gsm8k/accuracy": 0.79,
    "eval/gsm8k/maj": 0.83,
    "eval/selfaware/f1": 0.37,
    "eval/truthfulqa/accuracy": 0.49,
    "eval/truthfulqa/hallucination": 0.51,
    "calibration/math500/ece": 0.12,
    "calibration/truthfulqa/ece": 0.10,
}


def questions(suite: str, confidence: list[float], right: list[float]) -> list[dict[str, Any]]:
    """Rows of an evaluation's table."""
    pairs = enumerate(zip(confidence, right, strict=True))
    return [{"suite": suite, "example_id": f"{suite}/{i}", "confidence": c, "right": r} for i, (c, r) in pairs]


def make_evaluation(
    run: Path,
    step: int,
    metrics: dict[str, float],
    *,
    reliability: dict[str, list[dict[str, float]]] | None = None,
    rows: list[dict[str, Any]] | None = None,
    intervals: dict[str, Any] | None = None,
) -> None:
    found = FakeEvaluation(metrics, reliability or {}, rows or [], intervals or {})
    write_evaluation(run / "evaluations", step, found)


def make_evaluate(parent: Path, name: str, model: str, metrics: dict[str, float], **evaluation: Any) -> Path:
    """What ``carerl.evaluate`` leaves behind: a run directory without training."""
    run = parent / name
    run.mkdir(parents=True)
    settings = {"kind": "evaluate", "seed": 0, "model": {"path": model}, "evaluation": {"samples": 16}}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    summary = {"kind": "evaluate", "status": "completed", "seed": 0, "final": metrics, "run_dir": str(run)}
    (run / "summary.json").write_text(json.dumps(summary))
    make_evaluation(run, 0, metrics, **evaluation)
    return run


# what the tiny world showed, roughly: (recipe, regularizer, settings, values in the order of BASE)
METHODS: tuple[tuple[str, str, dict[str, Any], tuple[float, ...]], ...] = (
    ("none_grpo_tiny", "none", {}, (0.996, 0.998, 0.098, 0.067, 0.219, 0.008, 7.3, 0.004, 0.026)),
    (
        "rkl_grpo_tiny",
        "rkl",
        {"beta": 3.0, "estimator": "full"},
        (0.35, 0.428, 0.031, 0.04, 0.888, 0.156, 0.09, 0.061, 0.026),
    ),
    (
        "care_grpo_tiny",
        "srkl",
        {"beta": 3.0, "alpha": 0.8, "estimator": "full"},
        (0.947, 0.994, 0.053, 0.026, 0.453, 0.047, 4.5, 0.041, 0.026),
    ),
    (
        "care_grpo_tiny",
        "srkl",
        {"beta": 3.0, "alpha": 0.8, "estimator": "score"},
        (0.951, 0.993, 0.046, 0.027, 0.519, 0.042, 4.6, 0.039, 0.026),
    ),
    (
        "rkl_tuned_grpo_tiny",
        "rkl",
        {"beta": 0.2, "estimator": "full"},
        (0.914, 0.98, 0.067, 0.03, 0.30, 0.05, 4.2, 0.048, 0.026),
    ),
    (
        "fkl_tuned_grpo_tiny",
        "fkl",
        {"beta": 0.2, "estimator": "full"},
        (0.862, 0.95, 0.047, 0.03, 0.547, 0.06, 3.9, 0.055, 0.026),
    ),
)


def make_sweep(parent: Path, seeds: range = range(1000, 1008)) -> None:
    """Six methods over the seeds, their metrics scattered around those of the tiny world."""
    rng = np.random.default_rng(0)
    for number, (recipe, regularizer, settings, centre) in enumerate(METHODS):
        for seed in seeds:
            noise = rng.normal(0, (0.006, 0.003, 0.006, 0.003, 0.05, 0.003, 0.2, 0.004, 0.0005))
            values = np.abs(np.asarray(centre) + noise)
            values[:6] = np.minimum(values[:6], 1.0)
            final = dict(zip(BASE, values.tolist(), strict=True))
            base = {name: value * (1 + 0.02 * (seed - 1003.5) / 4) for name, value in BASE.items()}
            make_run(parent, config(recipe, seed, regularizer, **settings), final, base, suffix=f"00{number}a")
