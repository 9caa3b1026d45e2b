"""Settings and arguments that are paths, and how they are read.

``~`` is the home directory wherever a path is given, also where no shell has replaced it: in quotes, in YAML, in a
job's entrypoint. Only directories and files of this machine's file systems work; the address of a server or of object
storage is refused, and so is ``$NAME``, which no shell has replaced.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from carerl.errors import ConfigError

PLANNED = ("model.path", "task.data_dir", "task.train", "task.benchmarks", "anchor.source", "distillation.traces")
PLACES = ("run_dir", "runs_dir", "resume", *PLANNED)  # what is planned may lie on another machine
LONGEST, LONGEST_PART = 4095, 255  # bytes
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_HUB = re.compile(r"(?:https?://(?:www\.)?huggingface\.co/|hf://)(?:models/)?([\w.-]+/[\w.-]+)")
_VARIABLE = re.compile(r"\$(\w+|\{)")


def local(field: str, text: str) -> str:
    """Replaces ``~`` in a path. Raises ConfigError for text that is not a path of this machine."""
    if not text:
        return text
    refuse_address(field, text)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ConfigError(field, text, "it holds a control character, which no path should", "leave it out")
    if (variable := _VARIABLE.search(text)) and not os.path.lexists(text):
        name = variable[1].strip("{") or "NAME"
        reason = f"no shell has replaced {variable[0]} in it"
        raise ConfigError(field, text, reason, f"write ${{oc.env:{name}}} for the variable, or the path itself")
    if len(os.fsencode(text)) > LONGEST or any(len(os.fsencode(part)) > LONGEST_PART for part in text.split("/")):
        reason = f"file systems take {LONGEST_PART} bytes between two slashes, and {LONGEST} in all"
        raise ConfigError(field, text, reason, "give a shorter one")
    try:
        # a folder that is named ~ keeps its ./, which pathlib drops
        path = os.path.abspath(text) if str(Path(text)).startswith("~") and text[0] != "~" else text
        path = str(Path(text).expanduser()) if text.startswith("~") else path
    except RuntimeError:
        user = text.split("/")[0]
        reason = f"{user} is the home directory of a user, and no user here has this name"
        raise ConfigError(
            field, text, reason, f"write the directory in full, or ./{text} for one of this name"
        ) from None
    _refuse_closed(field, path)
    return path


def _refuse_closed(field: str, path: str) -> None:
    """Raises ConfigError for a path that this user may not look at. What a plan may name on another machine is free."""
    if field in PLANNED:
        return
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        reason = f"it cannot be looked at: {error.strerror or error}"
        raise ConfigError(field, path, reason, "give another one, or mend who may read it") from None


def refuse_address(field: str, text: str) -> None:
    """Raises ConfigError for the address of a server, of object storage, or of another machine."""
    if not _ADDRESS.match(text):
        return
    hub, remedy = _HUB.match(text), "give a directory that this machine reaches, copied or mounted"
    if text.startswith("file:"):
        remedy = f"write {field}={re.sub('^file:/+(localhost/)?', '/', text)}"
    elif field in ("model.path", "model") and hub:
        remedy = f"write {field}={hub[1]}, which is fetched from the hub"
    elif field.startswith(("task.", "anchor.", "distillation.")):
        remedy = "fetch it first, and give the file or directory"
    raise ConfigError(field, text, "it is an address, and only directories and files work here", remedy)
