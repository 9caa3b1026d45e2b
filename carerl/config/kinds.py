"""The kinds of run: what each starts, needs, and does.

A plugin adds a kind by a line in :data:`KINDS`. Which function trains a run of a kind is in a table of the controller.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """``roles``: the actors that are started, in the order in which they are placed (names of
    :data:`carerl.config.roles.ROLES`). ``needs``: the sections chosen by name that the run must have; it has no other.
    ``line``: one line for people. ``makes_base``: whether the result is the base model of other runs, made from
    nothing. ``taught``: whether the model learns responses that the task has for its training questions. ``prefers``:
    whether it learns from pairs of what it has sampled, a round of them in each step. ``command``:
    the command that carries out such a run. ``place``: the setting that names its directory."""

    roles: tuple[str, ...]
    needs: tuple[str, ...]
    line: str
    makes_base: bool = False
    taught: bool = False
    prefers: bool = False
    command: str = "python -m carerl.run recipe=…"
    place: str = "run_dir"

    @property
    def trains(self) -> bool:
        """True if a model is trained."""
        return "learner" in self.roles

    @property
    def starts_engines(self) -> bool:
        """True if a model generates responses."""
        return "rollout" in self.roles

    @property
    def trains_on_questions(self) -> bool:
        """True if the model is trained on the task's training questions, and engines run what it has become."""
        return self.trains and self.starts_engines

    @property
    def trains_on_corpus(self) -> bool:
        """True if the model is trained on the rows of the task's corpus."""
        return self.trains and not self.starts_engines


KINDS: dict[str, Kind] = {
    "rl": Kind(
        roles=("learner", "rollout", "reference", "grading"),  # without a penalty too: the divergence is reported
        needs=("task", "algorithm", "regularizer", "reward"),
        line="reinforcement learning from graded responses",
    ),
    "finetune": Kind(
        roles=("learner", "rollout", "reference", "grading"),  # RL's, so that it is evaluated in the same way
        needs=("task",),
        line="supervised finetuning on the task's own examples",
        taught=True,
    ),
    "caspo": Kind(
        roles=("learner", "rollout", "reference", "grading", "judge"),  # the last one where a second model judges
        needs=("task",),
        line="rounds of preferences between steps of the model's own responses",
        prefers=True,
    ),
    "sft": Kind(roles=("learner",), needs=("task",), line="supervised training on the task's corpus", makes_base=True),
    "untrained": Kind(roles=(), needs=(), line="only a model and a byte-level tokenizer are made", makes_base=True),
    "evaluate": Kind(
        roles=("rollout", "grading"),
        needs=("task",),
        line="the evaluation of a model",
        command="python -m carerl.evaluate model=…",
        place="out",
    ),
}
