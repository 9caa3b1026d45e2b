"""An engine and a learner with the same weights, or with one fault between them, and the gaps of their log-probs.

Used by the tests of the parity probe's limits and by ``tests/benchmarks/parity_gaps.py``, which measured them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from carerl.algorithms import ALGORITHMS
from carerl.backends.engines.base import Engine
from carerl.backends.learners import LEARNERS, Learner
from carerl.backends.learners.starting import from_files
from carerl.backends.models import DTYPES
from carerl.config.load import load
from carerl.config.schema import RunConfig
from carerl.loss.batching import Minibatch, make_batch, normalisers
from carerl.loss.objective import Objective
from carerl.loss.packing import pack_rows
from carerl.regularizers import REGULARIZERS
from carerl.types import Example, Group, Sample, Sampling
from tests.backends.engines.completions import complete
from tests.backends.transfer.sending import bring

Weights = Mapping[str, Tensor]


def settings(dtype: str, *words: str) -> RunConfig:
    """Of a run whose engine and learner compute in ``dtype``."""
    return load(["recipe=care_grpo_tiny", f"model.dtype={dtype}", f"learner.compute_dtype={dtype}", *words])


def with_rope_base(model_dir: Path, target: Path, base: float) -> Path:
    """The same model with another rope base in its config.json; weights are linked, not copied."""
    target.mkdir(parents=True)
    for file in model_dir.iterdir():
        if file.name != "config.json":
            (target / file.name).symlink_to(file.resolve())
    found = json.loads((model_dir / "config.json").read_text())
    found["rope_parameters"]["rope_theta"] = base
    (target / "config.json").write_text(json.dumps(found))
    return target


@dataclass
class Pair:
    """A real engine and a real learner, on this process's own rank (:func:`tests.backends.learners.ranks.alone`)."""

    engine: Engine
    learner: Learner
    config: RunConfig

    @classmethod
    def of(cls, config: RunConfig, engine: Engine, learner_dir: Path) -> Pair:
        algorithm, regularizer = ALGORITHMS["grpo"], REGULARIZERS["none"]
        objective = Objective(
            algorithm.build(algorithm.config()), regularizer.build(regularizer.config()), 0.0, "score"
        )
        start = from_files(str(learner_dir))
        learner = LEARNERS["fsdp2"](start, config.learner, objective, torch.device("cpu"))
        return cls(engine, learner, config)

    def weights(self) -> dict[str, Tensor]:
        """The learner's as they are now, in the dtype in which they are sent."""
        dtype = DTYPES[self.config.model.dtype]
        return {name: tensor.clone() for name, tensor in self.learner.source(dtype)}

    def send(self, weights: Weights) -> None:
        bring(self.engine, weights)

    def groups(self, prompts: Sequence[tuple[int, ...]], sampling: Sampling) -> list[Group]:
        """Sampled by the engine; every response with a reward of 0 or 1, in turn."""
        return [
            Group(
                Example(str(number), prompt, ""),
                [
                    Sample("", c.token_ids, c.logprobs, c.truncated, (0, 0), reward=k % 2)
                    for k, c in enumerate(completions)
                ],
            )
            for number, (prompt, completions) in enumerate(
                zip(prompts, complete(self.engine, prompts, sampling), strict=True)
            )
        ]

    def differences(self, groups: Sequence[Group], temperature: float = 1.0) -> Tensor:
        """(N,): learner − engine, of every token sampled."""
        samples = [sample for group in groups for sample in group.samples]
        prompts = [group.example.prompt_ids for group in groups for _ in group.samples]
        batch = pack_rows(prompts, [sample.response_ids for sample in samples], temperature)
        rows, streams = self.learner.log_probs(batch)
        logprobs_BT = torch.zeros(batch.rows, batch.width)
        logprobs_BT[rows] = streams["logprobs"]
        engine_N = torch.tensor([logprob for sample in samples for logprob in sample.rollout_logprobs])
        return logprobs_BT[batch.mask_BT] - engine_N

    def step(self, groups: Sequence[Group], lr: float) -> None:
        """One optimizer step of the learner."""
        algorithm = ALGORITHMS["grpo"].build(ALGORITHMS["grpo"].config())
        batch = make_batch(groups, algorithm, 1.0)
        rows = tuple(range(batch.rows))
        self.learner.update(batch, [Minibatch(rows, normalisers(batch, algorithm))], lr)


def other_numbers(weights: Weights, prefix: str, seed: int = 0) -> dict[str, Tensor]:
    """The same, but for tensors whose names begin with ``prefix``: those have their numbers in another order, which
    makes them random weights of the right size."""
    generator = torch.Generator().manual_seed(seed)
    found = dict(weights)
    for name in names(weights, prefix):
        flat = weights[name].flatten()
        found[name] = flat[torch.randperm(flat.numel(), generator=generator)].reshape(weights[name].shape)
    return found


def names(weights: Weights, prefix: str) -> Iterator[str]:
    """Never none."""
    found = [name for name in weights if name.startswith(prefix)]
    assert found, f"no weight begins with {prefix}"
    yield from found
