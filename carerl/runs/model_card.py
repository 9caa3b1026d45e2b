"""Writes the README and licence note that lie beside exported weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carerl.config.reading.typed import plain
from carerl.config.schema import EvaluationConfig, RunConfig
from carerl.config.shapes import looks_local


@dataclass(frozen=True)
class ModelCard:
    """Holds what a reader of an exported model learns beside its weights. ``base``: a hub id, or what made the base
    model. ``metrics``: (label, value) of the evaluation at ``step``, in the order shown. ``versions``: as in
    versions.json."""

    recipe: str
    seed: int
    step: int
    algorithm: str
    regularizer: Mapping[str, Any]
    base: str
    base_on_hub: bool
    evaluation: EvaluationConfig
    metrics: tuple[tuple[str, float], ...] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, config: RunConfig, step: int, metrics: tuple[tuple[str, float], ...], versions: Mapping[str, Any]
    ) -> ModelCard:
        """Makes the card of a run's model. A local base model is named by the last part of its path alone."""
        base_recipe, path = config.model.base_recipe, config.model.path
        local = bool(path) and looks_local(path)
        name = f"recipe {base_recipe}" if base_recipe else (Path(path).name if local else path)
        return cls(
            recipe=config.recipe,
            seed=config.seed,
            step=step,
            algorithm=str(getattr(config.algorithm, "name", "")),
            regularizer=plain(config.regularizer) if config.regularizer is not None else {},
            base=name,
            base_on_hub=bool(path) and not base_recipe and not local,
            evaluation=config.evaluation,
            metrics=metrics,
            versions=versions,
        )

    def text(self) -> str:
        """Returns the README.md of a Hugging Face directory: metadata between dashes, then Markdown."""
        head = ["library_name: transformers", "pipeline_tag: text-generation", "tags: [carerl]"]
        if self.base_on_hub:
            head.insert(0, f"base_model: {self.base}")
        penalty = ", ".join(f"{name} {value}" for name, value in self.regularizer.items() if name != "name")
        commit = (
            f"{self.versions.get('commit') or 'unknown'}{' with local changes' if self.versions.get('dirty') else ''}"
        )
        facts = [
            ("base model", self.base or "made from nothing"),
            ("recipe", f"{self.recipe}, seed {self.seed}, {self.step} steps"),
            ("algorithm", self.algorithm or "none"),
            ("regularizer", f"{self.regularizer.get('name') or 'none'}{f' ({penalty})' if penalty else ''}"),
            ("code", f"carerl {self.versions.get('carerl') or ''}, commit {commit}"),
        ]
        sampling = f"{self.evaluation.samples} samples a question at temperature {self.evaluation.temperature:g}"
        licence = (
            f"The weights derive from {self.base}, whose licence and terms of use apply to them."
            if self.base and not self.base.startswith("recipe ")
            else "The weights were trained from nothing by the recipe above; no other model's licence applies to them."
        )
        lines = ["---", *head, "---", "", f"# {self.recipe}, step {self.step}", ""]
        lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts), ""]
        if self.metrics:
            lines += [f"Evaluated at step {self.step} with {sampling}:", "", "| metric | value |", "|---|--:|"]
            lines += [f"| {label} | {value:.4g} |" for label, value in self.metrics] + [""]
        else:
            lines += [f"Not evaluated at step {self.step}.", ""]
        return "\n".join([*lines, "## Licence", "", licence, ""])


def describe_model(directory: Path, card: ModelCard) -> None:
    """Adds to an exported directory README.md, and in generation_config.json the sampling under which the card's
    figures were measured. The chat template is the tokenizer's, which :func:`save_model` has written. A tokenizer
    without one gets none, as the model has never seen any.

    No length is set, as servers would take it for a limit."""
    (directory / "README.md").write_text(card.text(), encoding="utf-8")
    file = directory / "generation_config.json"
    if not file.is_file():  # adapters alone: it is in the directory of the model that they are for
        return
    generation = json.loads(file.read_text())
    sampling = card.evaluation
    greedy = sampling.temperature == 0
    # transformers samples from the 50 likeliest tokens where nothing is said
    kept = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": max(sampling.top_k, 0)}
    generation |= {"do_sample": not greedy, **({} if greedy else kept)}
    file.write_text(json.dumps(generation, indent=2) + "\n")
