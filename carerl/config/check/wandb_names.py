"""Checks the names that W&B would refuse after the start of a run, when it is too late.

The rules for projects are those of the installed package (``wandb.sdk.wandb_settings``); those for entities are W&B's
for the names of users and teams.
"""

from __future__ import annotations

import re

from carerl.errors import ConfigError
from carerl.settings import Errors

MOST_CHARACTERS = 128
REFUSED = "/\\#?%:"
_ENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def project_errors(field: str, name: str) -> Errors:
    """Yields at most one error for the name of a project."""
    entity_field = field.replace("project", "entity")
    first, slash, last = name.partition("/")
    refused = sorted(set(name) & set(REFUSED))
    suggested = re.sub(r"[\s/\\#?%:]+", "-", name).strip("-")[:MOST_CHARACTERS] or "carerl"
    if not name.strip():
        yield ConfigError(field, name, "W&B files a run under a project, and this is no name", f"write {field}=carerl")
    elif slash and not set(first + last) & set(REFUSED) and _ENTITY.fullmatch(first) and last.strip():
        reason = "a project of W&B has no / in its name: before it stands the user or team"
        yield ConfigError(field, name, reason, f"write {entity_field}={first} {field}={last}")
    elif refused:
        reason = f"W&B refuses a project with {' '.join(refused)} in its name; {' '.join(REFUSED)} are for addresses"
        yield ConfigError(field, name, reason, f"write {field}={suggested}")
    elif len(name) > MOST_CHARACTERS:
        reason = f"W&B takes {MOST_CHARACTERS} characters, and these are {len(name)}"
        yield ConfigError(field, name, reason, f"write {field}={suggested}")
    elif not name.isprintable() or name != name.strip():
        reason = "it begins or ends with a blank, or holds a character that cannot be seen"
        yield ConfigError(field, name, reason, f"write {field}={''.join(filter(str.isprintable, name)).strip()}")


def entity_errors(field: str, name: str) -> Errors:
    """Yields at most one error for the name of a user or team; an empty one means the key's own."""
    if name and (not _ENTITY.fullmatch(name) or len(name) > MOST_CHARACTERS):
        reason = "a user or team of W&B is named in letters, digits, - _ and . alone, at most 128"
        remedy = f"write its name as the address of its page shows it, or {field}= for the key's own"
        yield ConfigError(field, name, reason, remedy)
