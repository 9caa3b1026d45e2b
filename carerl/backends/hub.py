"""Pins models of the Hugging Face hub to a commit, and finds their directories in the hub's cache.

The files behind a name on the hub can change from one day to the next. So the commit is looked up once, at the start,
and written down (``model.revision``). Every process loads that commit, and a resumed run loads it again.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from carerl.config.shapes import looks_local
from carerl.config.stored_weights import Stored, refusal
from carerl.errors import ConfigError

BESIDE_WEIGHTS = ("*.json", "*.model", "*.jinja", "*.txt")
WHOLE = (*BESIDE_WEIGHTS, "*.safetensors")
COMMIT = re.compile(r"[0-9a-f]{40}")
PATIENCE_S = 5.0
ELSEWHERE = "give a directory instead, or download it where the hub answers: python -m carerl.fetch NAME"


def answers() -> bool:
    """Asks if the hub answers within :data:`PATIENCE_S`.

    If it does not, this process reads only the hub's cache from now on: the hub's clients would try again for half a
    minute, and for longer behind a firewall.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(constants.ENDPOINT, timeout=PATIENCE_S).close()
    except HTTPError:  # it answers, if only to refuse this page
        return True
    except OSError:  # no name, no route, no answer
        constants.HF_HUB_OFFLINE = True
        os.environ["HF_HUB_OFFLINE"] = "1"  # for libraries that are not imported yet
        return False
    return True


def snapshot(
    name: str,
    patterns: tuple[str, ...] = WHOLE,
    revision: str = "",
    field: str = "model.path",
    remedy: str = ELSEWHERE,
) -> str:
    """Returns the directory of a hub's model. Downloads files that the cache lacks.

    ``revision``: a commit, a tag or a branch; '' is the newest. Raises ConfigError with the hub's reason.
    """
    from huggingface_hub import constants, snapshot_download

    try:
        return str(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))
    except Exception as error:  # network, hub or name
        reason = " ".join(str(error).split()) or type(error).__name__
        if constants.HF_HUB_OFFLINE:
            reason = "it is not in the hub's cache here, and the hub does not answer or is turned off (HF_HUB_OFFLINE)"
            reason += f"; commit or tag {revision}" if revision else ""
        raise ConfigError(field, name, f"the hub does not give it: {reason}", remedy) from error


def model_files(path: str, revision: str = "", patterns: tuple[str, ...] = BESIDE_WEIGHTS) -> str:
    """Returns the directory of a model; for a hub's model, that of the files that match ``patterns`` at ``revision``.

    A commit that the cache holds is not asked for again. Raises ConfigError.
    """
    if looks_local(path):
        return path
    if COMMIT.fullmatch(revision) and (folder := _cached(path, revision, patterns)):
        return folder
    return snapshot(path, patterns, revision)


def _cached(name: str, commit: str, patterns: tuple[str, ...]) -> str:
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, revision=commit, allow_patterns=list(patterns), local_files_only=True))
    except Exception:  # the cache lacks files: ask the hub
        return ""


def commit_of(name: str, revision: str = "") -> str:
    """Returns the commit of a hub's model: the newest, or that of a tag or branch.

    If the hub does not answer, it is the cache's. Raises ConfigError.
    """
    if COMMIT.fullmatch(revision):
        return revision
    answers()
    return Path(snapshot(name, BESIDE_WEIGHTS, revision)).name


def data_commit(name: str, revision: str = "") -> str:
    """Returns the commit of a hub's data set: the newest, or that of a tag or branch. If the hub does not answer, it is
    the cache's; '' if neither knows."""
    from huggingface_hub import HfApi, constants

    if COMMIT.fullmatch(revision):
        return revision
    if answers():
        with suppress(Exception):  # network or hub: it is then loaded without a commit, or refused
            return str(HfApi().dataset_info(name, revision=revision or None, timeout=PATIENCE_S).sha or "")
    folder = f"datasets--{name.replace('/', '--')}"
    with suppress(OSError):
        return (Path(constants.HF_HUB_CACHE) / folder / "refs" / (revision or "main")).read_text().strip()
    return ""


def remote_tensors(name: str, revision: str) -> dict[str, Stored] | None:
    """Returns the tensors of a hub's model from the headers of its files there; None if the hub does not tell.

    Raises ConfigError for a model that has no safetensors files.
    """
    from huggingface_hub import constants, get_safetensors_metadata
    from huggingface_hub.errors import NotASafetensorsRepoError

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        found = get_safetensors_metadata(name, revision=revision or None)
    except NotASafetensorsRepoError:
        reason = "it has no safetensors files on the hub, and pickled weights can run code as they are read"
        raise refusal(name, reason, "give a model with model.safetensors, or convert it") from None
    except Exception:  # network: the process that loads the model checks it
        return None
    return {
        tensor: Stored(str(facts.dtype), tuple(facts.shape), file)
        for file, metadata in found.files_metadata.items()
        for tensor, facts in metadata.tensors.items()
    }
