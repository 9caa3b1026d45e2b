"""What may leave the machine: an allow-list of a config's fields, with secrets blanked there and in any text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

# tracking, cluster, plugins and the directories stay here: they say where a run lives, not what it is
ALLOWED_FIELDS = (
    "recipe",
    "description",
    "kind",
    "seed",
    "steps",
    "prompts_per_step",
    "task",
    "algorithm",
    "regularizer",
    "reward",
    "model",
    "rollout",
    "reference",
    "learner",
    "sync",
    "evaluation",
    "checkpoint",
)
REDACTED = "[redacted]"
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
SHORTEST_SECRET = 8  # characters of an environment variable's value; shorter ones are switches and numbers
# what the well-known services' tokens look like, wherever they stand
_TOKEN_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|wandb_v1_\w{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}"
    r"|github_pat_\w{16,}|glpat-[\w-]{16,}|AKIA[A-Z0-9]{16})\b"
)
_URL_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")
_URL_SECRET = re.compile(r"(?P<name>[?&;][^=&;\s]*(?:key|token|secret|password)[^=&;\s]*=)[^&;\s]+", re.IGNORECASE)


def redact_text(text: str) -> str:
    """Credentials in URLs (user:password before the host, secret query parameters) and :func:`without_tokens`.

    >>> redact_text("s3://me:hunter2@store/x?api_key=abc&v=1")
    's3://[redacted]@store/x?api_key=[redacted]&v=1'
    """
    text = _URL_CREDENTIALS.sub(rf"\g<scheme>{REDACTED}@", text)
    return without_tokens(_URL_SECRET.sub(rf"\g<name>{REDACTED}", text))


def without_tokens(text: str) -> str:
    """``text`` without what looks like a service's token, and without the values of this process's environment
    variables whose names hold KEY, TOKEN, SECRET or PASSWORD."""
    for secret in environment_secrets(os.environ):
        text = text.replace(secret, REDACTED)
    return _TOKEN_SHAPES.sub(REDACTED, text)


def environment_secrets(environment: Mapping[str, str]) -> list[str]:
    """Longest first, so that one that holds another is blanked whole. Paths are none: HF_TOKEN_PATH names a file."""
    found = {
        value
        for name, value in environment.items()
        if _SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET and not value.startswith(("/", "~", "./"))
    }
    return sorted(found, key=lambda value: (-len(value), value))


def redact(value: Any, name: str = "") -> Any:
    """The same structure with secrets blanked: whatever stands under a name that holds KEY, TOKEN, SECRET
    or PASSWORD, and credentials in URLs. Counts of tokens (``max_new_tokens: 8``) stay."""
    if isinstance(value, Mapping):
        secret = bool(_SECRET_NAME.search(name))
        return {str(key): redact(item, name if secret else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, name) for item in value]
    if _SECRET_NAME.search(name) and value not in (None, ""):
        is_count = isinstance(value, bool | int | float) and name.lower().endswith("tokens")
        return value if is_count else REDACTED
    return redact_text(value) if isinstance(value, str) else value


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The allowed top-level fields of ``config``, redacted."""
    return {name: redact(config[name], name) for name in ALLOWED_FIELDS if name in config}
