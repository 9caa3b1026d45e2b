"""Values and pairings that are refused before anything starts.

Every check yields :class:`ConfigError`; :func:`validate` raises all of them at once, the first one in front. Bounds and
checks that concern one section stand beside its fields (:mod:`carerl.settings`); here are those that concern several.
What can only be known with the model, the task or the cluster at hand is checked by
:mod:`carerl.config.check.at_hand`.
"""

from __future__ import annotations

from carerl.config.check.anchors import anchor_pairings
from carerl.config.check.decoding import decode_pairings
from carerl.config.check.distillation import distillation_pairings, internal_pairings
from carerl.config.check.learner import learner_pairings
from carerl.config.check.lora import lora_pairings
from carerl.config.check.loss import decision_pairings, loss_pairings, reward_pairings
from carerl.config.check.model import model_pairings, path_pairings
from carerl.config.check.placement import placement_pairings
from carerl.config.check.places import run_dir_errors
from carerl.config.check.preferences import preference_pairings
from carerl.config.check.sync import sync_pairings
from carerl.config.check.work import (
    batch_pairings,
    engine_pairings,
    gpu_pairings,
    length_pairings,
    reference_pairings,
)
from carerl.config.plan.cards import card_pairings
from carerl.config.plan.memory import fit_pairings
from carerl.config.plan.shared import shared_fit_pairings
from carerl.config.schema import RunConfig
from carerl.config.selection import selection_pairings
from carerl.config.tables import CHOICES
from carerl.config.transfer import transfer_pairings
from carerl.errors import ConfigError, raise_all
from carerl.settings import Errors, bound_errors, checks


def validate(config: RunConfig) -> None:
    """Raises ConfigError (further ones in ``others``) if any value or pairing is illegal."""
    errors = list(bound_errors(config)) or list(_parts(config))
    if not errors:  # checks and pairings assume that every part is there and every value legal by itself
        for pairing in PAIRINGS:
            errors += pairing(config)
    raise_all(errors)


def _parts(c: RunConfig) -> Errors:
    """Refuses a section that the run's kind needs and does not have, and one that it has no use for."""
    for section in CHOICES:
        chosen = getattr(c, section)
        if section in c.does.needs and chosen is None:
            names = ", ".join(CHOICES[section])
            yield ConfigError(
                section, None, f"a run of kind {c.kind} needs one", f"write {section}.name=, one of {names}"
            )
        if section not in c.does.needs and chosen is not None:
            yield ConfigError(
                section,
                chosen.name,
                f"a run of kind {c.kind} has no {section}",
                f"leave {section} out, or kind=rl",
            )


def _kind(c: RunConfig) -> Errors:
    """Refuses what asks for actors that a run of this kind does not start."""
    evaluation = c.evaluation
    asked = {"every": evaluation.every > 0, "at_start": evaluation.at_start, "at_end": evaluation.at_end}
    for name, on in asked.items():
        if on and not c.starts_engines:
            yield ConfigError(
                f"evaluation.{name}",
                getattr(evaluation, name),
                f"a run of kind {c.kind} starts no engine, so it cannot be evaluated",
                f"write evaluation.{name}={0 if name == 'every' else 'false'}; an RL run evaluates its base first",
            )
    if c.profile and not c.does.trains:
        yield ConfigError("profile", True, "a model that is not trained takes no steps", "leave profile out")


def _swaps(c: RunConfig) -> Errors:
    """Refuses to swap traces where nothing is evaluated, or where no question has options."""
    if not c.evaluation.trace_swap:
        return
    if not c.evaluates:
        reason, remedy = "this run evaluates nothing", "leave it out, or write evaluation.at_end=true"
    elif not c.task.has_decisions:
        reason = f"task {c.task.name} has no questions with closed options between which a trace could decide"
        remedy = "choose a task with options, such as commonsenseqa; or in the tiny world write task.gold_noise=0.05"
    else:
        return
    yield ConfigError("evaluation.trace_swap", True, reason, remedy)


def _own(c: RunConfig) -> Errors:
    """Yields what the sections' own checks find."""
    yield from checks(c, c)


PAIRINGS = (
    _kind, _swaps, run_dir_errors, path_pairings, model_pairings, _own, decode_pairings, batch_pairings,
    loss_pairings, anchor_pairings, distillation_pairings, internal_pairings, decision_pairings, preference_pairings,
    selection_pairings, reward_pairings, reference_pairings, length_pairings, engine_pairings, learner_pairings,
    lora_pairings, placement_pairings, sync_pairings, transfer_pairings, gpu_pairings, card_pairings, fit_pairings,
    shared_fit_pairings,
)  # fmt: skip
