"""The tiny world's study of HyTuning: rows of its runs, and its bars, which were set before it was run.

    python -m tests.benchmarks.hybrid_study rows sweeps/hytuning_tiny … >> recipes/results/hytuning_tiny.jsonl
    python -m tests.benchmarks.hybrid_study forecast recipes/results/hytuning_tiny.jsonl 100-103 fa6ffef
    python -m tests.benchmarks.hybrid_study bars recipes/results/hytuning_tiny.jsonl 5000-5007

``rows`` prints a line of JSON for each finished run. ``forecast`` prints, from development seeds, how wide the bounds
will be on eight seeds; the file has development runs of several commits, and the last word chooses one. ``table``
prints the arms of the named seeds, with the course of rollout accuracy and of the gains' AUROC; ``bars`` prints them,
and each bar with its figure and whether it was met.

What the bars can say: HyTuning against shuffled gains is a test of the gains. HyTuning against the fixed mixture is one
of the whole method: gains also shift weight from responses to traces, as another fixed weight would.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
EARLY = 4  # parts from the beginning that are shown whole
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
COURSES = ("rollout/accuracy", "gain/unknown", "gain/negligible", "rollout/reward", "train/entropy", "gain/progressive",
           AUROC, "gain/unfiltered_auroc", "gain/without_last_auroc", "gain/total_auroc",
           "distillation/response_weight")  # fmt: skip
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
        row["shared"] |= {"steps": config["steps"], "part": PART}
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
    """Yields the course of each arm over its run: means over the steps of a part and over the seeds that have them, at
    each of the first :data:`EARLY` parts, after a tenth of the run, and so on to its end."""
    for arm, of_arm in study.by_arm.items():
        for name in COURSES:
            found = [row["courses"][name] for row in of_arm.values() if name in row["courses"]]
            if found:
                parts = [[value for value in part if value is not None] for part in zip(*found, strict=True)]
                early = range(min(EARLY, len(parts)))
                kept = sorted({*early, *(round(tenth * (len(parts) - 1) / 10) for tenth in range(11))})
                shown = " ".join(f"{np.mean(parts[k]):7.3f}" if parts[k] else "      –" for k in kept)
                yield f"{arm:34} {name:28} {shown}"


@dataclass(frozen=True)
class Peak:
    """Says where an arm's rollouts are best, by the mean over its seeds. The best of many noisy means lies above what a
    policy would show there again."""

    step: int
    """The last step of the part in which they are."""

    first: float
    best: float
    last: float
    """Accuracy of rollouts in the first part, the best one and the last one."""

    by_seed: tuple[int, ...]
    """The step of each seed by itself, in order."""


def peak(study: Rows, arm: str) -> Peak | None:
    """Returns where an arm's rollouts are best; None for an arm without rollouts."""
    found = {
        seed: row["courses"]["rollout/accuracy"]
        for seed, row in sorted(study.by_arm[arm].items())
        if "rollout/accuracy" in row["courses"]
    }
    if not found:
        return None
    means = [float(np.mean(part)) for part in zip(*found.values(), strict=True)]
    part = next(row["shared"]["part"] for row in study.by_arm[arm].values())
    best = int(np.argmax(means))
    by_seed = tuple((int(np.argmax(one)) + 1) * part for one in found.values())
    return Peak((best + 1) * part, means[0], means[best], means[-1], by_seed)


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


def said(test: PairedTest) -> tuple[str, bool]:
    """Returns a difference in words with its one-sided bounds, and whether it is shown to be above 0."""
    upper = 2 * test.difference - test.lower_bound
    words = f"by {test.difference:+.4f}, one-sided 95 % bounds {test.lower_bound:+.4f} and {upper:+.4f}"
    if not np.isfinite(test.difference):
        return "a figure is missing", False
    if test.lower_bound > 0:
        return words, True
    return f"{words}: {'the opposite is shown' if upper < 0 else 'no effect shown'}", False


def bars(study: Rows) -> Iterator[tuple[str, str, bool]]:
    """Yields each bar: what it asks, what was found, and whether it was met. Where it is not, gains have no effect that
    the study could show. A figure that is not a number misses. The two of accuracy are what the study is for; no bound
    is corrected for the number of bars."""
    yield from unfinished(study, ON_ALL_SEEDS)
    for name, test in by_bar(study).items():
        try:
            yield (name, *said(test()))
        except ValueError as error:  # of fewer than two seeds
            yield name, str(error), False


def by_bar(study: Rows) -> dict[str, Callable[[], PairedTest]]:
    """Returns the test of each bar by its name."""
    found: dict[str, Callable[[], PairedTest]] = {
        "AUROC of progressive gains for correctness above .5": partial(auroc, study)
    }
    return found | {name: partial(tested, study, name) for name in PAIRED}


def table(study: Rows) -> Iterator[str]:
    """Yields the table of arms, their courses, where each is best, and which runs of the second sweep are missing."""
    yield from (*arm_table(study, SHOWN), "", *courses(study), "")
    for arm in study.by_arm:
        if found := peak(study, arm):
            yield (
                f"{arm}: rollouts are best by step {found.step}: {found.first:.3f} at first, {found.best:.3f} there, "
                f"{found.last:.3f} in the end; seed by seed by step {', '.join(map(str, found.by_seed))}"
            )
    for arm in ON_SOME:
        if missing := sorted(set(study.lacks(arm)) & set(study.seeds[: SEEDS // 2])):
            yield f"{arm}: not run on {missing}"


def forecast(study: Rows) -> Iterator[str]:
    """Yields how far the bounds of the confirmation will lie from the differences, if these spread as here."""
    n = len(study.seeds)
    for name, test in by_bar(study).items():
        found = test()
        width = expected_width(found, n, SEEDS)
        bound = f"a bound on {SEEDS} at {found.difference - width:+.4f}"
        yield f"{name}: {found.difference:+.4f} on {n} seeds; expected is {bound}"


COMMANDS = Commands(str(__doc__), rows, Rows, forecast, table, bars)


if __name__ == "__main__":
    sys.exit(COMMANDS.main(sys.argv[1:]))
