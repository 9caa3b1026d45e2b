"""Blanks secrets in a text before it is shown, written or sent."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

REDACTED = "[redacted]"
SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
SHORTEST_SECRET = 8  # characters of an environment variable's value; shorter ones are switches and numbers
# more words of such names, for environment variables only; in a setting's name they mean something else
_KEPT_NAME = re.compile(
    r"KEY|TOKEN|SECRET|PASS(WORD|WD|PHRASE|$|_)|(^|_)PW($|_)|CREDENTIAL|COOKIE|PRIVATE|(^|_)AUTH($|_)|(^|_)DSN($|_)",
    re.IGNORECASE,
)
# what the well-known services' tokens look like, wherever they stand
_TOKEN_SHAPES = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|wandb_v1_\w{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}"
    r"|github_pat_\w{16,}|glpat-[\w-]{16,}|AKIA[A-Z0-9]{16})\b"
)
_URL_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")
_URL_SECRET = re.compile(r"(?P<name>[?&;][^=&;\s]*(?:key|token|secret|password)[^=&;\s]*=)[^&;\s]+", re.IGNORECASE)


def redact_text(text: str) -> str:
    """Blanks credentials in URLs (user:password before the host, secret query parameters), and everything that
    :func:`without_tokens` blanks.

    >>> redact_text("s3://me:hunter2@store/x?api_key=abc&v=1")
    's3://[redacted]@store/x?api_key=[redacted]&v=1'
    """
    text = _URL_CREDENTIALS.sub(rf"\g<scheme>{REDACTED}@", text)
    return without_tokens(_URL_SECRET.sub(rf"\g<name>{REDACTED}", text))


def without_tokens(text: str) -> str:
    """Blanks what looks like a service's token, and the values of this process's environment variables whose names say
    that they are secrets (:func:`names_secret`)."""
    for secret in environment_secrets(os.environ):
        text = text.replace(secret, REDACTED)
    return _TOKEN_SHAPES.sub(REDACTED, text)


def environment_secrets(environment: Mapping[str, str]) -> list[str]:
    """Returns the values of secret variables, longest first, so that a value that contains another is blanked whole.

    Paths are left out: HF_TOKEN_PATH names a file.
    """
    found = {
        value
        for name, value in environment.items()
        if names_secret(name) and len(value) >= SHORTEST_SECRET and not value.startswith(("/", "~", "./"))
    }
    return sorted(found, key=lambda value: (-len(value), value))


def names_secret(variable: str) -> bool:
    """Returns True if an environment variable's name says that its value is a secret.

    >>> [names_secret(name) for name in ("HF_TOKEN", "PGPASSWORD", "DB_PASS", "SEED", "PWD", "SCRATCH")]
    [True, True, True, False, False, False]
    """
    return _KEPT_NAME.search(variable) is not None
