"""Decides what may leave the machine: an allow-list of a config's fields, with secrets blanked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carerl.text.redaction import REDACTED, SECRET_NAME, redact_text

# tracking, cluster, plugins and the directories stay here: they say where a run lives, not what it is
ALLOWED_FIELDS = (
    "recipe",
    "scale",
    "description",
    "kind",
    "seed",
    "steps",
    "prompts_per_step",
    "task",
    "algorithm",
    "regularizer",
    "decision",
    "anchor",
    "distillation",
    "preference",
    "reward",
    "model",
    "rollout",
    "reference",
    "judge",
    "learner",
    "sync",
    "evaluation",
    "decode",
    "checkpoint",
)


def redact(value: Any, name: str = "") -> Any:
    """Returns the same structure with secrets blanked: values under names that hold KEY, TOKEN, SECRET or PASSWORD, and
    credentials in URLs. Counts of tokens (``max_new_tokens: 8``) stay."""
    if isinstance(value, Mapping):
        secret = bool(SECRET_NAME.search(name))
        return {str(key): redact(item, name if secret else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, name) for item in value]
    if SECRET_NAME.search(name) and value not in (None, ""):
        is_count = isinstance(value, bool | int | float) and name.lower().endswith("tokens")
        return value if is_count else REDACTED
    return redact_text(value) if isinstance(value, str) else value


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the allowed top-level fields of ``config``, redacted."""
    return {name: redact(config[name], name) for name in ALLOWED_FIELDS if name in config}
