"""Checks what a rehearsal must show: weights that moved, engines that took them, a resumed run that equals a whole
one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from carerl.actors.crew import TrainingCrew
from carerl.backends.engines.base import Query
from carerl.loss.packing import pack_rows
from carerl.runs.directory import RunDirectory
from carerl.runs.jsonl import read_metrics
from carerl.runs.tables import read_evaluations, read_questions, read_rollouts
from carerl.tasks import Task

CLOCK = ("time/", "system/")  # metrics of the machine: they are never equal twice
FIXED_PROMPTS = 4
FIXED_TOKENS = 8  # spread over the vocabulary; their log-probs after each prompt are compared
NEAR = 0.25  # the engine's log-probs may be this far from the learner's, as a share of how far they moved
NAMED = 3  # how many faults of one kind are named


@dataclass(frozen=True)
class Logprobs:
    """Holds log-probs (nats) of the fixed tokens after the fixed prompts, one after the other."""

    values_N: torch.Tensor

    def gap(self, other: Logprobs) -> float:
        """Returns the mean absolute difference; NaN if a log-prob is NaN."""
        return float((self.values_N - other.values_N).abs().mean())


def _questions(task: Task, vocabulary: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Returns each fixed prompt with the fixed tokens."""
    tokens = tuple(sorted({vocabulary * k // FIXED_TOKENS for k in range(FIXED_TOKENS)}))
    return [(example.prompt_ids, tokens) for example in task.train_examples(0, FIXED_PROMPTS)]


def engine_logprobs(crew: TrainingCrew, task: Task) -> Logprobs:
    """Returns the fixed log-probs of the engine as it is."""
    queries = [Query(prompt, tokens) for prompt, tokens in _questions(task, task.vocab_size)]
    return Logprobs(torch.tensor([value for found in crew.engines.next_logprobs(queries) for value in found]))


def learner_logprobs(crew: TrainingCrew, task: Task) -> Logprobs:
    """Returns the fixed log-probs of the learner as it is."""
    pairs = [(prompt, (token,)) for prompt, tokens in _questions(task, task.vocab_size) for token in tokens]
    batch = pack_rows([prompt for prompt, _ in pairs], [response for _, response in pairs])
    return Logprobs(crew.learner.log_probs(crew.learner.hold(batch))["logprobs"][:, 0])


def engine_faults(before: Logprobs, after: Logprobs, learner: Logprobs) -> list[str]:
    """Returns why it seems that an engine did not take the trained weights: its log-probs must have moved, and be near
    the learner's."""
    moved, apart = before.gap(after), after.gap(learner)
    if not moved > 0:
        return ["the engine did not take a change: its log-probs of fixed tokens are those of the first weights"]
    if not apart <= NEAR * moved:
        return [
            f"the engine did not take all of the change: its log-probs of fixed tokens moved by {moved:.3g} nats, and "
            f"are {apart:.3g} from the learner's"
        ]
    return []


LEARNERS_WEIGHTS = "float32"  # a folder of a rehearsed run: the learner's last weights, without any rounding


def weights_of(run: Path) -> Path:
    """Returns the file of a rehearsed run's last weights, or of its adapters alone."""
    adapters = run / LEARNERS_WEIGHTS / "adapter_model.safetensors"
    return adapters if adapters.is_file() else run / LEARNERS_WEIGHTS / "model.safetensors"


def unmoved(before: Path, after: Path, targets: Collection[str] = ()) -> tuple[list[str], int]:
    """Returns the names of the tensors that are equal in two safetensors files, and how many were compared: all, or the
    weights of ``targets``, the layers with adapters. An adapter's B, which is in no first file, began at zero."""
    first, last = _tensors(before), _tensors(after)
    trained = {f"{name}.weight" for name in (*targets, "lora_B")}
    names = [name for name in last if not targets or ".".join(name.split(".")[-2:]) in trained]
    still = [n for n in names if last[n].equal(first[n].float() if n in first else torch.zeros_like(last[n]))]
    return still, len(names)


def weight_faults(before: Path, after: Path, targets: Collection[str] = ()) -> list[str]:
    """Returns which weights training did not change, see :func:`unmoved`."""
    still, tensors = unmoved(before, after, targets)
    if not still:
        return []
    if len(still) == tensors:
        return [f"no weight changed: all {tensors} tensors are those of the start"]
    return [f"{len(still)} of {tensors} weight tensors did not change: {_some(still)}"]


@dataclass(frozen=True)
class Compared:
    """Says how much of two runs was compared, and what differs."""

    rows: int  # metrics, one a step and name
    samples: int
    tensors: int
    faults: list[str]


def compare(whole: Path, resumed: Path) -> Compared:
    """Compares a run that was stopped and resumed with one that never stopped: metrics without those of the clock,
    samples and their tokens, evaluations, and the learner's weights at the end."""
    faults = []
    rows = [_rows(run) for run in (whole, resumed)]
    faults += _differing("metrics.jsonl", rows[0], rows[1])
    tables = [_samples(run) for run in (whole, resumed)]
    faults += _differing("rollouts", tables[0], tables[1])
    evaluations = [_evaluations(run) for run in (whole, resumed)]
    faults += _differing("evaluations", evaluations[0], evaluations[1])
    one, other = (_tensors(weights_of(run)) for run in (whole, resumed))
    changed = sorted(
        n for n in one.keys() | other.keys() if n not in one or n not in other or not one[n].equal(other[n])
    )
    if changed:
        faults.append(
            f"the resumed run ends with other weights: {len(changed)} of {len(one)} tensors, {_some(changed)}"
        )
    return Compared(len(rows[0]), len(tables[0]), len(one), faults)


def _rows(run: Path) -> dict[str, Any]:
    """Returns a run's metrics by step and name, without those of the clock."""
    return {
        f"step {row['step']:g}, {name}": value
        for row in read_metrics(RunDirectory(run).metrics)
        for name, value in row.items()
        if name != "step" and not name.startswith(CLOCK)
    }


def _samples(run: Path) -> dict[str, Any]:
    """Returns what identifies each training sample, by table and row."""
    kept = ("example_id", "response_ids", "outcome", "reward", "advantage", "token_logprob")
    return {
        f"{path.stem}, row {number}": [row[name] for name in kept]
        for path in sorted(RunDirectory(run).rollouts.glob("*.parquet"))
        for number, row in enumerate(read_rollouts(path))
    }


def _evaluations(run: Path) -> dict[str, Any]:
    """Returns the rows of each evaluation, by step, suite and question."""
    folder = RunDirectory(run).evaluations
    return {
        f"step {record['step']}, {row['suite']} {row['example_id']}": row
        for record in read_evaluations(folder)
        for row in read_questions(folder, record["step"])
    }


def _differing(where: str, whole: Mapping[str, Any], resumed: Mapping[str, Any]) -> list[str]:
    """Returns in a line which values of two runs differ; empty if none does."""
    # Compared as text, because NaN is not equal to itself.
    keys = [key for key in {**whole, **resumed} if repr(whole.get(key)) != repr(resumed.get(key))]
    if not keys:
        return []
    first = keys[0]
    shown = ""
    if not isinstance(whole.get(first), list | dict):
        shown = f" ({whole.get(first)} never stopped, {resumed.get(first)} resumed)"
    return [f"the resumed run has other {where}: {_some(keys)}{shown}"]


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _some(names: Sequence[str] | Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
