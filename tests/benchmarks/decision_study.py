"""The tiny world's study of the decision token: rows of its runs, and its bars, which were set before it was run.

    python -m tests.benchmarks.decision_study rows sweeps/decisions_tiny … >> recipes/results/decisions_tiny.jsonl
    python -m tests.benchmarks.decision_study forecast recipes/results/decisions_tiny.jsonl 100-103
    python -m tests.benchmarks.decision_study bars recipes/results/decisions_tiny.jsonl 3000-3007

``rows`` prints a line of JSON for each finished run. ``forecast`` prints, from development seeds, how wide the bounds
will be on eight seeds. ``bars`` prints, from the rows of the named seeds alone, the table of arms, the curves of
measured against predicted probability, and each bar with its figure and whether it was met.

Confidence is p(decision), the probability of the sampled decision, given the model's own trace. ECE has bins of equal
count and is against the known chance of being right. Temperature and isotonic regression are fitted on p(decision) of
the run's own validation questions, whose golds are drawn as in training.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from carerl.calibration import PairedTest, brier, ece, fit_isotonic, fit_temperature
from carerl.decisions.fixed import leader
from carerl.runs.directory import RunDirectory
from carerl.runs.tables import read_questions
from carerl.tasks.base import VALIDATION
from tests.benchmarks.study_rows import (
    Commands,
    Rows,
    average,
    expected_width,
    finished,
    mean_text,
    paired,
    row_of,
    unfinished,
)

SUITE, OPTIONS = "q3", 10
SEEDS = 8  # of the confirmation
KEPT = ("eval/accuracy", "eval/accuracy_k2", "eval/accuracy_k4", "calibration/facts_ece", "eval/entropy")
PREDICTED = {  # arm -> target and clamp of its curve
    "paper, clamp off": ("paper", "off"),
    "paper": ("paper", "uniform"),
    "rest": ("rest", "uniform"),
    "gold": ("gold", "off"),
    "paper, clamp both": ("paper", "both"),
}
ON_ALL_SEEDS = ("GRPO", "GRPO without std", "SFT", "paper, clamp off", "paper", "rest", "gold")
ON_SOME = ("RLOO", "paper, clamp both", "paper, sampled reward")
SHOWN = ("accuracy", "argmax", "right traces", "ECE", "ECE right", "gap right", "Brier", "flips", "p of flip")


def arm_of(config: Mapping[str, Any]) -> str:
    """Returns the name of a run's arm, by its settings. Raises ValueError for settings that no arm has."""
    if config["kind"] == "finetune":
        return "SFT"
    algorithm, decision = config["algorithm"], config["decision"]
    sampled = ", sampled reward" if decision["reward"] == "sampled" else ""
    if decision["name"] == "none":
        name = str(algorithm["name"]).upper() + ("" if algorithm.get("advantage_std", True) else " without std")
    else:
        clamp = "" if decision["clamp"] == "uniform" or decision["target"] == "gold" else f", clamp {decision['clamp']}"
        name = f"{decision['target']}{clamp}"
    arm, whole = f"{name}{sampled}", decision["mask"] and decision["regularize"]
    if arm not in (*ON_ALL_SEEDS, *ON_SOME) or not whole:
        raise ValueError(f"{arm}: no arm of the study has these settings: {decision}")
    return arm


def rows(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields a row for each finished run below the paths."""
    for run, summary, config in finished(paths):
        row, final = row_of(arm_of(config), run, summary, config), summary["final"]
        row["shared"]["steps"] = config["steps"]
        yield {
            **row,
            "steps": summary["steps"],
            "own": {name: config[name] for name in ("algorithm", "decision") if config.get(name)},
            "final": {k: v for k, v in final.items() if k in KEPT or f"/{SUITE}/" in k or f"/{VALIDATION}/argmax" in k},
            "posthoc": posthoc(run, int(summary["steps"])),
        }


def posthoc(run: RunDirectory, step: int) -> dict[str, dict[str, float]]:
    """Returns what temperature and isotonic regression make of p(decision)."""
    questions = read_questions(run.evaluations, step)
    held, asked = (_decisions(questions, suite) for suite in (VALIDATION, SUITE))
    confidence, known, ids = asked
    found = {"none": confidence}
    for name, fit in (("temperature", fit_temperature), ("isotonic", fit_isotonic)):
        found[name] = fit(*held).apply(confidence, ids)
    return {
        name: {
            "ece": ece(values, known),
            "ece_count": ece(values, known, scheme="count"),
            "brier": brier(values, known),
            "gap": float(np.abs(values - known).mean()),
        }
        for name, values in found.items()
    }


def _decisions(questions: Sequence[Mapping[str, Any]], suite: str) -> tuple[Any, Any, list[str]]:
    """Returns p(decision), rightness and question of each decided sample of a suite."""
    pairs = [
        (probability, right, row["example_id"])
        for row in questions
        if row["suite"] == suite
        for probability, right in zip(row["decision_probs"], row["decision_rights"], strict=True)
        if probability is not None
    ]
    confidence, rights, ids = zip(*pairs, strict=True)
    return np.array(confidence), np.array(rights), list(ids)


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    final = row["final"]
    names = {
        "accuracy": "eval/accuracy",
        "argmax": f"eval/{SUITE}/argmax_accuracy",
        "right traces": f"eval/{SUITE}/right_traces",
        "ECE": f"calibration/{SUITE}/answer_prob_ece_count",
        "ECE right": f"calibration/{SUITE}/right_trace_ece",
        "gap right": f"calibration/{SUITE}/right_trace_gap",
        "Brier": f"calibration/{SUITE}/answer_prob_brier",
        "flips": f"eval/{SUITE}/swap_flips",
        "p of flip": f"eval/{SUITE}/swap_probability",
    }
    return {label: final.get(name, float("nan")) for label, name in names.items()}


class Study(Rows):
    """Holds the rows of some seeds, with the figures of this study."""

    @property
    def noise(self) -> float:
        """The noise of golds, times a first digit."""
        first = next(row for of_arm in self.by_arm.values() for row in of_arm.values())
        return float(first["shared"]["task"]["gold_noise"])

    def values(self, arm: str, figure: str) -> dict[int, float]:
        """Returns a figure of an arm by seed."""
        return {seed: _figures(row)[figure] for seed, row in sorted(self.by_arm.get(arm, {}).items())}

    def curve(self, arm: str, name: str = "eta") -> list[float]:
        """Returns means over seeds by the question's first digit: of p(true answer) on right traces, or with the name
        ``decision_eta`` of p(decision). NaN where a seed has none."""
        of_arm, start = self.by_arm.get(arm, {}).values(), f"calibration/{SUITE}/{name}_"
        return [float(np.mean([row["final"].get(f"{start}{n}", np.nan) for row in of_arm])) for n in range(OPTIONS)]

    def after(self, arm: str, scaler: str, figure: str) -> dict[int, float]:
        """Returns a figure by seed after a post-hoc calibration."""
        return {seed: row["posthoc"][scaler][figure] for seed, row in sorted(self.by_arm.get(arm, {}).items())}


def table(study: Study) -> Iterator[str]:
    """Yields the lines of the table of arms: means over seeds with the half-width of their 95 % interval."""
    yield "| arm | seeds | " + " | ".join(SHOWN) + " |"
    yield "|---|--:|" + "--:|" * len(SHOWN)
    for arm, of_arm in study.by_arm.items():
        cells = [mean_text(list(study.values(arm, figure).values())) for figure in SHOWN]
        yield f"| {arm} | {len(of_arm)} | " + " | ".join(cells) + " |"
    yield ""
    yield "| p(decision) after | arm | ECE | Brier | distance from the known chance |"
    yield "|---|---|--:|--:|--:|"
    for arm in study.by_arm:
        for scaler in ("none", "temperature", "isotonic"):
            cells = [mean_text(list(study.after(arm, scaler, f).values())) for f in ("ece_count", "brier", "gap")]
            yield f"| {scaler} | {arm} | " + " | ".join(cells) + " |"


def curves(study: Study) -> Iterator[str]:
    """Yields measured and predicted probabilities of the true answer, by first digit."""
    for arm in study.by_arm:
        yield f"{arm:26} measured  " + " ".join(f"{p:.3f}" for p in study.curve(arm))
        if arm in PREDICTED:
            yield f"{'':26} predicted " + " ".join(f"{p:.3f}" for p in predicted(study, arm))


def predicted(study: Study, arm: str) -> list[float]:
    """Returns where training with the arm's target comes to rest, by first digit."""
    target, clamp = PREDICTED[arm]
    return [leader(1 - study.noise * first, OPTIONS, target, clamp) for first in range(OPTIONS)]


def bars(study: Study) -> Iterator[tuple[str, str, bool]]:
    """Yields each bar: what it asks, what was found, and whether it was met. A figure that is not a number misses."""
    yield from unfinished(study, ON_ALL_SEEDS)
    lowest = float(np.min(study.curve("GRPO", "decision_eta")))
    yield "GRPO: mean p(decision) at least .97 at every eta", f"lowest {lowest:.3f}", lowest >= 0.97
    error = average(study.values("GRPO", "ECE"))
    yield "GRPO: ECE of p(decision) at least .15", f"{error:.3f}", error >= 0.15
    for arm in PREDICTED:
        gaps = np.abs(np.array(study.curve(arm)) - np.array(predicted(study, arm)))
        said = f"largest distance {gaps.max():.3f}, mean {gaps.mean():.3f}, {len(study.by_arm.get(arm, {}))} seeds"
        yield f"{arm}: measured p within .03 of the predicted curve at every eta", said, bool(gaps.max() <= 0.03)
    gold = average(study.values("gold", "ECE right"))
    yield "gold: ECE on right traces at most .03", f"{gold:.3f}", gold <= 0.03
    accuracy, lower = (difference(study, name) for name in PAIRED)
    yield (
        "paper: arg-max accuracy not lower than GRPO's by .05",
        f"difference {accuracy.difference:+.4f}, one-sided 95 % bound {accuracy.lower_bound:+.4f}",
        accuracy.lower_bound > -0.05,
    )
    yield (
        "paper: ECE lower than GRPO's",
        f"by {lower.difference:.4f}, one-sided 95 % bound {lower.lower_bound:.4f}",
        lower.lower_bound > 0,
    )
    flips = average(study.values("GRPO", "flips"))
    yield "GRPO: flips under a swapped trace at least .9", f"{flips:.3f}", flips >= 0.9


PAIRED = {
    "arg-max accuracy, paper less GRPO": ("argmax", "paper", "GRPO"),
    "ECE, GRPO less paper": ("ECE", "GRPO", "paper"),
}


def difference(study: Study, name: str) -> PairedTest:
    """Tests a difference of two arms over their seeds."""
    figure, arm, other = PAIRED[name]
    return paired(study.values(arm, figure), study.values(other, figure))


def forecast(study: Study) -> Iterator[str]:
    """Yields how far the bounds of the confirmation will lie from the differences, if these spread as here."""
    for name in PAIRED:
        test, n = difference(study, name), len(study.seeds)
        width = expected_width(test, n, SEEDS)
        yield f"{name}: {test.difference:+.4f} on {n} seeds; expected distance of the bound on {SEEDS}: {width:.4f}"


def comparisons(study: Study) -> Iterator[str]:
    """Yields paired differences that have no bar, and their p-values as they are: not corrected for their number."""
    pairs = [("paper", "none", "GRPO", "isotonic"), ("paper", "none", "GRPO", "temperature"),
             ("paper", "none", "SFT", "none"), ("gold", "none", "SFT", "none"), ("gold", "none", "paper", "none"),
             ("gold", "none", "GRPO", "isotonic"), ("rest", "none", "paper", "none")]  # fmt: skip
    for arm, scaler, other, other_scaler in pairs:
        for figure in ("ece_count", "brier", "gap"):
            ours, theirs = study.after(arm, scaler, figure), study.after(other, other_scaler, figure)
            if len(ours.keys() & theirs.keys()) < 2:
                continue
            test = paired(theirs, ours)
            label = other if other_scaler == "none" else f"{other} + {other_scaler}"
            yield f"{figure}: {arm} lower than {label} by {test.difference:+.4f} (p = {test.p_value:.3f}, two-sided)"


def everything(study: Study) -> Iterator[str]:
    """Yields the tables, the curves and the comparisons."""
    yield from (*table(study), "", *curves(study), "", *comparisons(study), "")


COMMANDS = Commands(str(__doc__), rows, Study, forecast, everything, bars)


if __name__ == "__main__":
    sys.exit(COMMANDS.main(sys.argv[1:]))
