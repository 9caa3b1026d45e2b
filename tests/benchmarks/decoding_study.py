"""The tiny world's study of steps and trees: methods of inference on models trained in six ways, with bars set before.

    python -m tests.benchmarks.decoding_study run FOLDER ROWS.jsonl 100-103 [ARM …]
    python -m tests.benchmarks.decoding_study forecast ROWS.jsonl 100-103
    python -m tests.benchmarks.decoding_study bars ROWS.jsonl 4000-4007

``run`` trains each arm on each seed below FOLDER, has every method of inference answer the suites of the model that
came of it, and appends a row of JSON for each cell that is finished. The same command goes on where it was stopped; a
cell with a row is not run again. Two cells run at a time (:mod:`.decoding_cells`). ``forecast`` prints, from
development seeds, how wide the bounds will be. ``bars`` prints, from the rows of the named seeds alone, what each arm
and method came to, and each bar with its figure and whether it was met.

1. All figures are of the trained suite, q3. A gain is a method's accuracy less self-consistency's on the same model and
   questions, both with the tokens of the cheaper one (:mod:`carerl.inference.budgets`).
2. "Saves tokens only": at the whole budget CaT's accuracy is not lower than self-consistency's by more than .01, by a
   paired bound, and its tokens are fewer, by another.
3. The chosen log-prob is that of the same steps before and after the round whose pairs they are: its mean change must
   not be below 0 in any round.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from carerl.calibration import PairedTest
from carerl.runs.decoding import BASELINE
from tests.benchmarks.decoding_cells import ARMS, METHODS, ON_SOME, SUITE, run_cells
from tests.benchmarks.study_rows import (
    Rows,
    average,
    expected_width,
    mean_text,
    paired,
    read_rows,
    say_bars,
    seeds_of,
)

SEEDS = 8  # of the confirmation
CASPO = "CASPO"
ROUNDS = (0, 2)  # between which steps are compared
MOST_GAIN = 0.02  # of CaT on the base model: the prediction
NOT_LOWER = 0.01
GAP = f"eval/{SUITE}/step_entropy_gap"
STEP_ECE = f"calibration/{SUITE}/step_ece"
STEP_AUROC = f"calibration/{SUITE}/step_auroc_entropy"
SHOWN = {  # columns of the table of arms
    "accuracy": "eval/accuracy",
    "k = 2": "eval/accuracy_k2",
    "k = 4": "eval/accuracy_k4",
    "FACTS ECE": "calibration/facts_ece",
    "F1": "calibration/unknowable_f1",
}
COLUMNS = ("accuracy", "equal_tokens_gain", "equal_budget_gain", "tokens", "ece", "auroc", "pruned")


class Study(Rows):
    """Holds the rows of some seeds, with the figures of this study."""

    def final(self, arm: str, name: str) -> dict[int, float]:
        """Returns a metric of the arm's final models by seed."""
        return {seed: row["final"].get(name, float("nan")) for seed, row in self._of(arm)}

    def decoded(self, arm: str, method: str, kind: str) -> dict[int, float]:
        """Returns a figure of a method on the arm's final models by seed. The baseline gains nothing on itself."""
        default = 0.0 if method == BASELINE and kind.endswith("_gain") else float("nan")
        return {seed: row["decode"][SUITE].get(method, {}).get(kind, default) for seed, row in self._of(arm)}

    def at_round(self, arm: str, name: str, number: int) -> dict[int, float]:
        """Returns a metric of the evaluation after a round, by seed."""
        return {seed: row["rounds"].get(str(number), {}).get(name, float("nan")) for seed, row in self._of(arm)}

    def chosen_change(self, arm: str, number: int) -> dict[int, float]:
        """Returns by how much a round raised the log-prob of its own chosen steps, nats a step, by seed."""
        return {seed: row["chosen"].get(str(number), float("nan")) for seed, row in self._of(arm)}

    def rounds(self, arm: str) -> list[int]:
        """Returns the numbers of the rounds that any seed has."""
        return sorted({int(number) for _, row in self._of(arm) for number in row["chosen"]})

    def _of(self, arm: str) -> list[tuple[int, Mapping[str, Any]]]:
        return sorted(self.by_arm.get(arm, {}).items())


def needed(arm: str, seeds: Sequence[int]) -> Sequence[int]:
    """Returns the seeds that an arm is run on: of some arms the first half."""
    return seeds[: max(1, len(seeds) // 2)] if arm in ON_SOME and len(seeds) > 4 else seeds


def table(study: Study) -> Iterator[str]:
    """Yields the lines of the tables of arms and of methods: means over seeds with the half-width of their 95 %
    interval."""
    yield "| arm | seeds | " + " | ".join(SHOWN) + " |"
    yield "|---|--:|" + "--:|" * len(SHOWN)
    for arm, of_arm in study.by_arm.items():
        cells = [mean_text(list(study.final(arm, name).values())) for name in SHOWN.values()]
        yield f"| {arm} | {len(of_arm)} | " + " | ".join(cells) + " |"
    yield ""
    yield "| arm | method | " + " | ".join(COLUMNS) + " |"
    yield "|---|---|" + "--:|" * len(COLUMNS)
    for arm in study.by_arm:
        for method in METHODS:
            cells = [mean_text(list(study.decoded(arm, method, kind).values())) for kind in COLUMNS]
            yield f"| {arm} | {method} | " + " | ".join(cells) + " |"


def rounds(study: Study) -> Iterator[str]:
    """Yields what rounds did to steps, arm by arm: means over seeds."""
    names = {"entropy gap": GAP, "step ECE": STEP_ECE, "step AUROC": STEP_AUROC, "FACTS ECE": SHOWN["FACTS ECE"]}
    yield "| arm | round | " + " | ".join(names) + " | chosen log-prob, change |"
    yield "|---|--:|" + "--:|" * (len(names) + 1)
    for arm in study.by_arm:
        numbers = [0, *study.rounds(arm)] if study.rounds(arm) else []
        for number in numbers:
            cells = [mean_text(list(study.at_round(arm, name, number).values())) for name in names.values()]
            change = mean_text(list(study.chosen_change(arm, number).values())) if number else "–"
            yield f"| {arm} | {number} | " + " | ".join([*cells, change]) + " |"


def bars(study: Study) -> Iterator[tuple[str, str, bool]]:
    """Yields each bar: what it asks, what was found, and whether it was met. A figure that is not a number misses."""
    for arm in ARMS:
        wanted = needed(arm, study.seeds)
        if missing := [seed for seed in study.lacks(arm) if seed in wanted]:
            yield f"{arm}: a finished cell of every seed", f"none of {missing}", False
    gain = average(study.decoded("base", "cat", "equal_tokens_gain"))
    said = f"mean {gain:+.4f} on {len(study.by_arm.get('base', {}))} seeds"
    yield (
        f"base: CaT gains at most {MOST_GAIN} over self-consistency at equal tokens (the prediction)",
        said,
        (gain <= MOST_GAIN),
    )
    found = paired_or_none(study.decoded(CASPO, "cat", "equal_tokens_gain"))
    said = f"{bound_text(found)}: {verdict(study, CASPO)}"
    yield f"{CASPO}: CaT not below self-consistency at equal tokens", said, found is not None and found.lower_bound >= 0
    first, last = ROUNDS
    for what, name, sign in (("entropy gap grows", GAP, 1), ("step ECE falls", STEP_ECE, -1)):
        before, after = study.at_round(CASPO, name, first), study.at_round(CASPO, name, last)
        change = {seed: sign * (after[seed] - before[seed]) for seed in after}
        found = paired_or_none(change)
        said = f"from {average(before):.4f} to {average(after):.4f}, {bound_text(found)}"
        yield f"{CASPO}: {what} from round {first} to {last}", said, found is not None and found.lower_bound > 0
    changes = [average(study.chosen_change(CASPO, number)) for number in study.rounds(CASPO)]
    said = "changes by round " + ", ".join(f"{change:+.3f}" for change in changes)
    yield (
        f"{CASPO}: the chosen log-prob falls in no round",
        said,
        bool(changes) and bool(np.all(np.array(changes) >= 0)),
    )
    shown = [arm for arm in study.by_arm if not np.isfinite(list(study.final(arm, SHOWN["FACTS ECE"]).values())).all()]
    yield "FACTS ECE of every arm and seed is there to be shown", f"missing: {', '.join(shown) or 'none'}", not shown


def verdict(study: Study, arm: str) -> str:
    """Says what CaT does on an arm's models: gains, loses, saves tokens only, or has no effect."""
    gains = study.decoded(arm, "cat", "equal_tokens_gain")
    gain = paired_or_none(gains)
    if gain is not None and gain.lower_bound >= 0:
        return "not below"
    whole = paired_or_none(study.decoded(arm, "cat", "equal_budget_gain"))
    theirs, ours = (study.decoded(arm, method, "tokens") for method in (BASELINE, "cat"))
    saved = paired_or_none({seed: theirs[seed] - ours[seed] for seed in ours})
    if whole is not None and saved is not None and whole.lower_bound > -NOT_LOWER and saved.lower_bound > 0:
        return "saves tokens only"
    lost = gain is not None and paired(dict.fromkeys(gains, 0.0), gains).lower_bound > 0
    return "loses" if lost else "no effect"


def paired_or_none(differences: Mapping[int, float]) -> PairedTest | None:
    """Tests paired differences against 0 over their seeds; None where there are fewer than two, or one is no number."""
    values = list(differences.values())
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    return paired(differences, dict.fromkeys(differences, 0.0))


def bound_text(test: PairedTest | None) -> str:
    if test is None:
        return "not measured on every seed"
    return f"difference {test.difference:+.4f}, one-sided 95 % bound {test.lower_bound:+.4f}"


def forecast(study: Study) -> Iterator[str]:
    """Yields how far the bounds of the confirmation will lie from the differences, if these spread as here."""
    before, after = (study.at_round(CASPO, GAP, number) for number in ROUNDS)
    for name, differences in (
        ("CaT less self-consistency on CASPO's models", study.decoded(CASPO, "cat", "equal_tokens_gain")),
        ("entropy gap", {seed: after[seed] - before[seed] for seed in after}),
    ):
        test = paired_or_none(differences)
        if test is not None:
            width = expected_width(test, len(differences), SEEDS)
            yield f"{name}: {test.difference:+.4f}; expected distance of the bound on {SEEDS} seeds: {width:.4f}"


def main(words: Sequence[str]) -> int:
    """Runs the command; returns 1 if a bar was missed or a cell failed."""
    if words[:1] == ["run"] and len(words) >= 4:
        seeds = seeds_of(words[3])
        cells = [(arm, seed) for arm in words[4:] or ARMS for seed in needed(arm, seeds)]
        return run_cells(Path(words[1]), Path(words[2]), cells)
    if len(words) != 3 or words[0] not in ("forecast", "bars"):
        print(__doc__)
        return 2
    study = Study(read_rows(words[1]), seeds_of(words[2]))
    if words[0] == "forecast":
        print("\n".join(forecast(study)))
        return 0
    verdicts = [f"{arm}: CaT at equal tokens: {verdict(study, arm)}" for arm in study.by_arm]
    print("\n".join([*table(study), "", *rounds(study), "", *verdicts, ""]))
    return say_bars(list(bars(study)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
