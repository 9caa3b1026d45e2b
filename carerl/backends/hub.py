"""Models of the Hugging Face hub: pinned to a commit, and read as the directory that the hub's cache holds of them.

A name on the hub stands for other files from one day to the next. So the commit is found once, at the start, and
written down (``model.revision``); every process loads that commit, and a run that is gone on with loads it again.
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
    """Whether the hub answers within :data:`PATIENCE_S`. Where it does not, this process takes what it can from the
    hub's cache from now on: the hub's clients try again for half a minute, and for longer behind a firewall."""
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
    """Returns the directory of a hub's model, its files downloaded where the cache lacks them. ``revision``: a commit,
    a tag or a branch; '' is the newest. Raises ConfigError in the hub's words."""
    from huggingface_hub import constants, snapshot_download

    try:
        return str(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))
    except Exception as error:  # of the network, of the hub, of the name
        reason = " ".join(str(error).split()) or type(error).__name__
        if constants.HF_HUB_OFFLINE:
            reason = "it is not in the hub's cache here, and the hub does not answer or is turned off (HF_HUB_OFFLINE)"
            reason += f"; commit or tag {revision}" if revision else ""
        raise ConfigError(field, name, f"the hub does not give it: {reason}", remedy) from error


def model_files(path: str, revision: str = "", patterns: tuple[str, ...] = BESIDE_WEIGHTS) -> str:
    """Returns the directory of a model: its own, or of a hub's model what matches ``patterns`` at ``revision``. A
    commit that the cache holds is not asked for again. Raises ConfigError."""
    if looks_local(path):
        return path
    if COMMIT.fullmatch(revision) and (folder := _cached(path, revision, patterns)):
        return folder
    return snapshot(path, patterns, revision)


def _cached(name: str, commit: str, patterns: tuple[str, ...]) -> str:
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(name, revision=commit, allow_patterns=list(patterns), local_files_only=True))
    except Exception:  # it is not whole: the hub is asked
        return ""


def commit_of(name: str, revision: str = "") -> str:
    """Returns the commit that a hub's model has now, or under a tag or branch; of the cache where the hub does not
    answer. Raises ConfigError."""
    if COMMIT.fullmatch(revision):
        return revision
    answers()
    return Path(snapshot(name, BESIDE_WEIGHTS, revision)).name


def data_commit(name: str, revision: str = "") -> str:
    """Returns the commit that a data set of the hub has now, or under a tag or branch; of the hub's cache where the hub
    does not answer; '' where neither knows."""
    from huggingface_hub import HfApi, constants

    if COMMIT.fullmatch(revision):
        return revision
    if answers():
        with suppress(Exception):  # of the network, of the hub: it is loaded without a commit, or refused then
            return str(HfApi().dataset_info(name, revision=revision or None, timeout=PATIENCE_S).sha or "")
    folder = f"datasets--{name.replace('/', '--')}"
    with suppress(OSError):
        return (Path(constants.HF_HUB_CACHE) / folder / "refs" / (revision or "main")).read_text().strip()
    return ""


def remote_tensors(name: str, revision: str) -> dict[str, Stored] | None:
    """Returns the tensors of a hub's model from the headers of its files there; None where the hub does not tell.
    Raises ConfigError for a model that has no safetensors files."""
    from huggingface_hub import constants, get_safetensors_metadata
    from huggingface_hub.errors import NotASafetensorsRepoError

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        found = get_safetensors_metadata(name, revision=revision or None)
    except NotASafetensorsRepoError:
        reason = "it has no safetensors files on the hub, and pickled weights can run code as they are read"
        raise refusal(name, reason, "give a model with model.safetensors, or convert it") from None
    except Exception:  # of the network: who loads it, checks it
        return None
    return {
        tensor: Stored(str(facts.dtype), tuple(facts.shape), file)
        for file, metadata in found.files_metadata.items()
        for tensor, facts in metadata.tensors.items()
    }
