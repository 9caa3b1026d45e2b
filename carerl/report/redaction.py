"""What of a config may leave the machine: an allow-list of fields, with secrets blanked inside them."""

from __future__ import annotations

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
_URL_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")
_URL_SECRET = re.compile(r"(?P<name>[?&;][^=&;\s]*(?:key|token|secret|password)[^=&;\s]*=)[^&;\s]+", re.IGNORECASE)


def redact_text(text: str) -> str:
    """Credentials in URLs blanked: user:password before the host, and secret query parameters.

    >>> redact_text("s3://me:hunter2@store/x?api_key=abc&v=1")
    's3://[redacted]@store/x?api_key=[redacted]&v=1'
    """
    text = _URL_CREDENTIALS.sub(rf"\g<scheme>{REDACTED}@", text)
    return _URL_SECRET.sub(rf"\g<name>{REDACTED}", text)


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
