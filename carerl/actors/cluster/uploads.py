"""Keeps files with secrets back when a folder is sent to a cluster.

Ray's head stores a folder that a job takes along (``working_dir=``), and every process of the cluster can read it. So
files with the usual names of secrets stay here, and so does every text file that holds a private key, a service's
token, or the value of a secret variable of this process. Ray itself leaves out what ``.gitignore`` and ``.rayignore``
name.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from carerl.text.redaction import without_tokens

# patterns as in .gitignore, at any depth; a name that ends in / is a folder's
SECRET_NAMES = (
    ".env", ".env.*", "*.env", ".envrc", ".netrc", ".pypirc", ".npmrc", ".git-credentials", ".pgpass", "kubeconfig",
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keytab", "*.kdbx", "*.ppk", "id_rsa*", "id_dsa*", "id_ecdsa*",
    "id_ed25519*", "credentials", "credentials.*", "*credentials.json", "client_secret*.json", "service_account*.json",
    "secrets.*", "auth_token", "*.tfstate",
    ".ssh/", ".aws/", ".azure/", ".gcloud/", ".gnupg/", ".kube/", ".docker/", ".huggingface/", ".secrets/", ".git/",
)  # fmt: skip
HARMLESS = (".env.example", ".env.sample", ".env.template", "*.pub")
NOT_LOOKED_INTO = {".git", ".venv", "venv", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache"}
FILE_BYTES = 256 * 1024  # a larger file is no file of settings and is not read
FILES = 20_000  # how many are read


def kept_back(folder: str | Path) -> dict[str, str]:
    """Returns path below ``folder`` -> why it is not sent, in order. A folder's path ends in a slash."""
    found: dict[str, str] = {}
    looked = 0
    for name in _walk(Path(folder)):
        if _named(name):
            found[name] = "its name"
        elif not name.endswith("/") and looked < FILES:
            looked += 1
            if reason := _content(Path(folder, name)):
                found[name] = reason
    return found


def _walk(folder: Path) -> Iterator[str]:
    """Yields the files and folders below a folder. Does not enter folders that are kept back or need no look."""
    for root, folders, files in os.walk(folder):
        inside = os.path.relpath(root, folder)
        prefix = "" if inside == "." else f"{inside}/"
        yield from (f"{prefix}{name}/" for name in sorted(folders))
        folders[:] = [name for name in folders if name not in NOT_LOOKED_INTO and not _named(f"{prefix}{name}/")]
        yield from (f"{prefix}{name}" for name in sorted(files))


def _named(name: str) -> bool:
    """Returns True if a path has one of the usual names of secrets."""
    last = name.rstrip("/").rpartition("/")[2]
    patterns = [p.rstrip("/") for p in SECRET_NAMES if p.endswith("/") == name.endswith("/")]
    if not name.endswith("/") and any(fnmatch.fnmatchcase(last, pattern) for pattern in HARMLESS):
        return False
    return any(fnmatch.fnmatchcase(last, pattern) for pattern in patterns)


def _content(path: Path) -> str:
    """Returns in words which secret a file holds; '' for none."""
    try:
        if not path.is_file() or path.stat().st_size > FILE_BYTES:
            return ""
        content = path.read_bytes()
    except OSError:  # a file that cannot be read is not sent either: Ray says so
        return ""
    if b"\0" in content[:1024]:
        return ""
    text = content.decode("utf-8", errors="replace")
    if "-----BEGIN" in text and "PRIVATE KEY-----" in text:
        return "a private key in it"
    return "a token or a secret variable's value in it" if without_tokens(text) != text else ""


def patterns(kept: dict[str, str]) -> list[str]:
    """Returns the same paths as patterns of ``.gitignore``, for Ray."""
    return ["/" + "".join(f"\\{c}" if c in "\\*?[]! #" else c for c in name) for name in kept]


def told(folder: str, kept: dict[str, str]) -> str:
    """Returns the list for people to read; '' if everything is sent."""
    if not kept:
        return ""
    listed = ", ".join(f"{name} ({reason})" for name, reason in kept.items())
    return f"not sent from {folder}, as they may hold secrets: {listed}"
