"""Finds a W&B server that only a file of the working directory names.

W&B reads ``./wandb/settings`` of the working directory, whoever put it there, and sends the user's key to the server
that it names. What the user's own file, ``wandb login`` and ``WANDB_BASE_URL`` say is the user's decision.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path


def server_of_a_strangers_file() -> str:
    """Returns the server that only ``./wandb/settings`` names and that would receive the key; '' where there is none.

    A file that cannot be read counts as one, as W&B might be able to read it."""
    path = Path(os.environ.get("WANDB_DIR") or ".") / "wandb" / "settings"
    if os.environ.get("WANDB_BASE_URL") or not path.is_file():
        return ""
    found = configparser.ConfigParser(interpolation=None)
    try:
        found.read_string(path.read_text(), str(path))
    except (OSError, ValueError, configparser.Error):
        return f"{path} (which cannot be read)"
    urls = [found[section]["base_url"] for section in found if "base_url" in found[section]]
    return urls[0] if urls else ""
