"""Counts the rows of a step and its optimizer steps, by kind of run."""

from __future__ import annotations

from dataclasses import dataclass

from carerl.config.schema import RunConfig


@dataclass(frozen=True)
class Rows:
    """Says what a step trains on: ``samples`` responses to each of its ``prompts``, dealt to ``minibatches`` in each of
    ``epochs``. In a round of preferences two responses to each pair, for as many pairs as there may be."""

    prompts: int
    samples: int = 1
    minibatches: int = 1
    epochs: int = 1

    @property
    def total(self) -> int:
        return self.prompts * self.samples

    @property
    def per_minibatch(self) -> int:
        return -(-self.prompts // self.minibatches) * self.samples


def rows_of(config: RunConfig) -> Rows:
    """Returns the rows of a step: responses in RL, a response to each prompt in supervised finetuning, else rows of the
    task's corpus."""
    if config.prefers:
        preference = config.preference
        pairs = config.prompts_per_step * preference.pairs_per_question
        updates = -(-pairs // min(pairs, preference.pairs_per_update))
        return Rows(pairs, 2, updates, preference.epochs)
    a, corpus = config.algorithm, config.task.rows_per_step if config.task is not None else 0
    if a is not None:
        return Rows(config.prompts_per_step, a.group_size, a.minibatches, a.epochs)
    return Rows(config.prompts_per_step if config.taught else corpus or config.prompts_per_step)
