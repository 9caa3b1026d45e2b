"""The tiny world's study of HyTuning: rows of its runs, and its bars, which were set before it was run.

    python -m tests.benchmarks.hybrid_study rows sweeps/hytuning_tiny … >> recipes/results/hytuning_tiny.jsonl
    python -m tests.benchmarks.hybrid_study forecast recipes/results/hytuning_tiny.jsonl 100-103
    python -m tests.benchmarks.hybrid_study bars recipes/results/hytuning_tiny.jsonl 5000-5007

``rows`` prints a line of JSON for each finished run. ``forecast`` prints, from development seeds, how wide the bounds
will be on eight seeds. ``table`` prints the arms of the named seeds, with the course of rollout accuracy and of the
gains' AUROC; ``bars`` prints them, and each bar with its figure and whether it was met.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from carerl.calibration import PairedTest
from carerl.runs.jsonl import read_metrics
from tests.benchmarks.study_rows import (
    Commands,
    Rows,
    arm_table,
    average,
    expected_width,
    finished,
    paired,
    row_of,
    unfinished,
)

SEEDS = 8  # of the confirmation
PART = 5  # steps of a part of a course: RL from internal feedback is expected to be best near step 20
SIGNAL, WEIGHT = "majority", 3.0  # the internal reward and the traces' weight of the recipes, chosen in development
HYTUNING, SHUFFLED, MIXTURE = "hytuning", "hytuning, shuffled", "mixture"
RD, ORACLE = "rd", "GRPO"
ON_ALL_SEEDS = (RD, f"rlif {SIGNAL}", MIXTURE, HYTUNING, SHUFFLED, ORACLE)
OTHERS = [f"rlif {signal}" for signal in ("certainty", "entropy", "majority", "semantic") if signal != SIGNAL]
ON_SOME = (*OTHERS, *(f"{arm}, {few}%" for few in (5, 10) for arm in (RD, MIXTURE, HYTUNING)))
PAIRED = {  # what HyTuning is compared with, in which figure, and the sign of what is better
    "accuracy, HyTuning above the fixed mixture": ("accuracy", HYTUNING, MIXTURE, 1),
    "accuracy, HyTuning above shuffled gains": ("accuracy", HYTUNING, SHUFFLED, 1),
    "FACTS ECE, HyTuning below the fixed mixture": ("ECE", HYTUNING, MIXTURE, -1),
    "FACTS ECE, HyTuning below shuffled gains": ("ECE", HYTUNING, SHUFFLED, -1),
}
AUROC = "gain/progressive_auroc"
KEPT = ("eval/accuracy", "eval/accuracy_k2", "eval/accuracy_k4", "eval/maj", "eval/entropy", "eval/kl_per_sequence",
        "calibration/facts_ece", "calibration/answer_ece", "calibration/question_ece",
        "calibration/unknowable_f1")  # fmt: skip
COURSES = ("rollout/accuracy", "gain/unknown", "rollout/reward", "train/entropy", "gain/progressive", AUROC,
           "gain/without_last_auroc", "gain/total_auroc", "distillation/response_weight")  # fmt: skip
SHOWN = {
    "accuracy": "eval/accuracy",
    "maj@16": "eval/maj",
    "ECE": "calibration/facts_ece",
    "F1": "calibration/unknowable_f1",
    "k=2": "eval/accuracy_k2",
    "k=4": "eval/accuracy_k4",
    "entropy": "eval/entropy",
    "question ECE": "calibration/question_ece",
}


def arm_of(config: Mapping[str, Any]) -> str:
    """Returns the name of a run's arm, by its settings."""
    mixed = config["distillation"]
    few = "" if mixed["labelled"] == 0.01 else f", {100 * mixed['labelled']:g}%"
    if config["kind"] == "finetune":
        return f"{RD}{few}"
    reward = config["reward"]["name"]
    if mixed["name"] == "none":
        return ORACLE if reward == "correct" else f"rlif {reward}"
    parts = [HYTUNING if mixed["name"] == "prg" else MIXTURE]
    parts += [] if reward == SIGNAL else [reward]
    parts += ["shuffled"] if mixed["shuffle"] else []
    parts += [] if mixed["last_step"] else ["without the last step"]
    parts += [] if mixed["weight"] == WEIGHT else [f"weight {mixed['weight']:g}"]
    parts += [] if mixed["floor"] == 0.1 else [f"floor {mixed['floor']:g}"]
    return ", ".join(parts) + few


def rows(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields a row for each finished run below the paths."""
    for run, summary, config in finished(paths):
        row = row_of(arm_of(config), run, summary, config)
        row["shared"]["steps"] = config["steps"]
        logged = [line for line in read_metrics(run.path / "metrics.jsonl") if "train/loss" in line]
        yield {
            **row,
            "own": {name: config[name] for name in ("algorithm", "reward", "distillation") if config.get(name)},
            "base": {name: value for name, value in summary["base"].items() if name in KEPT},
            "final": {name: value for name, value in summary["final"].items() if name in KEPT},
            "courses": {name: course(logged, name) for name in COURSES if any(name in line for line in logged)},
        }


def course(logged: Sequence[Mapping[str, float]], name: str) -> list[float | None]:
    """Returns a metric's mean in each part of a run; None for a part without it."""
    parts = [logged[first : first + PART] for first in range(0, len(logged), PART)]
    values = [[row[name] for row in part if name in row] for part in parts]
    return [float(np.mean(found)) if found else None for found in values]


def courses(study: Rows) -> Iterator[str]:
    """Yields the course of each arm over its run: means over :data:`PART` steps and over the seeds that have them, at
    the run's beginning, after a tenth of it, and so on to its end."""
    for arm, of_arm in study.by_arm.items():
        for name in COURSES:
            found = [row["courses"][name] for row in of_arm.values() if name in row["courses"]]
            if found:
                parts = [[value for value in part if value is not None] for part in zip(*found, strict=True)]
                kept = sorted({round(tenth * (len(parts) - 1) / 10) for tenth in range(11)})
                shown = " ".join(f"{np.mean(parts[k]):7.3f}" if parts[k] else "      –" for k in kept)
                yield f"{arm:34} {name:28} {shown}"


def peak(study: Rows, arm: str) -> tuple[int, float, float] | None:
    """Returns the step by which an arm's rollouts are best in the mean over seeds, the accuracy there, and in the end;
    None for an arm without rollouts. It is the last step of that part of the course. The best of many noisy means lies
    above what a policy would show there again."""
    found = [
        row["courses"]["rollout/accuracy"] for row in study.by_arm[arm].values() if "rollout/accuracy" in row["courses"]
    ]
    if not found:
        return None
    means = [float(np.mean(part)) for part in zip(*found, strict=True)]
    best = int(np.argmax(means))
    return (best + 1) * PART, means[best], means[-1]


def tested(study: Rows, name: str) -> PairedTest:
    """Tests a difference over the seeds: above 0 is what is hoped for."""
    figure, arm, other, sign = PAIRED[name]
    ours, theirs = (study.figure(one, SHOWN[figure]) for one in (arm, other))
    return paired({seed: sign * v for seed, v in ours.items()}, {seed: sign * v for seed, v in theirs.items()})


def auroc(study: Rows, arm: str = HYTUNING) -> PairedTest:
    """Tests over the seeds how far the AUROC of an arm's gains for correctness, mean over its steps, lies above .5."""
    found = {seed: row["courses"].get(AUROC, []) for seed, row in study.by_arm.get(arm, {}).items()}
    means = {seed: average(dict(enumerate(v for v in parts if v is not None))) for seed, parts in found.items()}
    return paired(means, dict.fromkeys(means, 0.5))


def bars(study: Rows) -> Iterator[tuple[str, str, bool]]:
    """Yields each bar: what it asks, what was found, and whether it was met. Where it is not, gains have no effect that
    the study could show. A figure that is not a number misses. The two of accuracy are what the study is for; no bound
    is corrected for the number of bars."""
    yield from unfinished(study, ON_ALL_SEEDS)
    tests = {"AUROC of progressive gains for correctness above .5": partial(auroc, study)}
    tests |= {name: partial(tested, study, name) for name in PAIRED}
    for name, test in tests.items():
        try:
            found = test()
        except ValueError as error:  # of fewer than two seeds
            yield name, str(error), False
            continue
        met = found.lower_bound > 0
        said = f"by {found.difference:+.4f}, one-sided 95 % bound {found.lower_bound:+.4f}"
        yield name, said if met else f"{said}: no effect shown", met


def table(study: Rows) -> Iterator[str]:
    """Yields the table of arms, their courses, and where each is best."""
    yield from (*arm_table(study, SHOWN), "", *courses(study), "")
    for arm in study.by_arm:
        if found := peak(study, arm):
            step, best, last = found
            yield f"{arm}: rollouts are best by step {step}, {best:.3f}; in the end {last:.3f}"


def forecast(study: Rows) -> Iterator[str]:
    """Yields how far the bounds of the confirmation will lie from the differences, if these spread as here."""
    for name in PAIRED:
        test, n = tested(study, name), len(study.seeds)
        width = expected_width(test, n, SEEDS)
        yield f"{name}: {test.difference:+.4f} on {n} seeds; expected distance of the bound on {SEEDS}: {width:.4f}"


COMMANDS = Commands(str(__doc__), rows, Rows, forecast, table, bars)


if __name__ == "__main__":
    sys.exit(COMMANDS.main(sys.argv[1:]))
