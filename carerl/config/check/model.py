"""Checks that a model is where the settings say, and suits the run. The files themselves: ``at_hand``."""

from __future__ import annotations

import os

from carerl.config.named_models import BYTES, PACKAGED, near_name
from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape, looks_local
from carerl.config.stored_weights import no_model_there
from carerl.errors import ConfigError
from carerl.settings import Errors
from carerl.tasks.byte_tokenizer import VOCAB_SIZE as BYTE_VOCABULARY


def path_pairings(c: RunConfig) -> Errors:
    """Yields an error for a model that is not where the settings say."""
    path = c.model.path
    if c.model.revision and (not path or path in PACKAGED or looks_local(path)):
        reason = "only a model of the hub has revisions"
        yield ConfigError("model.revision", c.model.revision, reason, "leave it out, or write model.path=owner/name")
    if near := near_name(path):
        reason = f"there is no such model directory here, and it is nearly {near}, which has a short name"
        yield ConfigError("model.path", path, reason, f"write model.path={near}, or ./{path} for a directory")
    elif path == BYTES:
        yield ConfigError("model.path", path, "a recipe makes this model", f"write model.base_recipe={BYTES} instead")
    # a plan needs no weights, so that the path of another machine is no error in it
    elif path and not c.dry_run and path not in PACKAGED and looks_local(path) and not os.path.isdir(path):
        yield ConfigError(
            "model.path",
            path,
            "it is a file, and not a directory" if os.path.isfile(path) else "there is no such model directory",
            f"give a Hugging Face model directory that exists here, a hub id owner/name, or {', '.join(PACKAGED)}",
        )
    elif path and not (c.dry_run or c.rehearse) and path not in PACKAGED and looks_local(path):
        yield from no_model_there(path)


def model_pairings(c: RunConfig) -> Errors:
    """Yields an error for a run without a model or with two, and for a model that does not suit the run."""
    if c.starts_engines and not c.model.path and not c.model.base_recipe:
        purpose = "train" if c.does.trains else "evaluate"
        yield ConfigError(
            "model.path", "", f"there is no model to {purpose}", "give model.path= or model.base_recipe=base_tiny"
        )
    if c.model.path and c.model.base_recipe:
        yield ConfigError(
            "model.base_recipe",
            c.model.base_recipe,
            f"the base model is given twice, model.path is {c.model.path}",
            "to train from model.path, write model.base_recipe=",
        )
    if not c.trains_on_questions and c.model.base_recipe:
        yield ConfigError("model.base_recipe", c.model.base_recipe, "a base model is made from nothing", "leave it out")
    if c.does.makes_base and not c.does.trains and c.model.shape.vocab_size != BYTE_VOCABULARY:
        yield ConfigError(
            "model.shape.vocab_size",
            c.model.shape.vocab_size,
            f"an untrained model reads bytes, and its tokenizer has {BYTE_VOCABULARY} tokens",
            f"write model.shape.vocab_size={BYTE_VOCABULARY}",
        )
    shape, origin = effective_shape(c)
    yield from shape.faults(origin)
    yield from vocabulary(c, c.task.vocabulary if c.task is not None else 0)
    made_here = not c.model.path
    if made_here and shape.architecture == "qwen2":
        yield ConfigError(
            "model.shape.architecture",
            "qwen2",
            "for a qwen2 directory transformers loads a tokenizer class of its own, ignores the task's "
            "tokenizer and encodes every text to nothing",
            "write model.shape.architecture=qwen3",
        )
    if c.rollout.max_model_len > shape.context_length:
        yield ConfigError(
            "rollout.max_model_len",
            c.rollout.max_model_len,
            f"the model's context is {shape.context_length} tokens ({origin})",
            f"write rollout.max_model_len={shape.context_length} or less",
        )


def vocabulary(c: RunConfig, needed: int) -> Errors:
    """Yields an error if the model lacks a row for a token of a task that has a vocabulary of its own (``needed``
    tokens; 0 for a task without one)."""
    shape, origin = effective_shape(c)
    if shape.vocab_size >= needed:
        return
    reason = f"task {c.task.name} has {needed} tokens"
    if shape is c.model.shape:
        remedy = f"write model.shape.vocab_size={needed} or more"
        yield ConfigError("model.shape.vocab_size", shape.vocab_size, reason, remedy)
    else:
        reason = f"{reason}, {origin} says vocab_size {shape.vocab_size}"
        yield ConfigError("model.path", c.model.path, reason, "use a model that was made for the task")
