"""The command ``carerl``: its verbs, its one reader of command lines, and that it is light.

Not covered: what each verb does (its own test), and the installed script (test_wheel.py).
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from carerl import __version__, cli
from carerl.errors import ConfigError
from carerl.types import RunError

PACKAGE = Path(cli.__file__).parent
PARTS = {
    "__init__",
    "__main__",
    "cli",
    "errors",
    "progress",
    "seeds",
    "settings",
    "types",
}  # files that are no commands


@dataclass(frozen=True)
class Options:
    out: str = cli.option("here")
    count: int = cli.option(3, cli.whole(1, 9))
    quick: bool = cli.option(False, cli.flag)


def test_every_command_is_in_the_table_and_can_be_called() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} - PARTS == set(cli.COMMANDS)
    for verb in cli.COMMANDS:
        assert callable(importlib.import_module(f"carerl.{verb}").main)


@pytest.mark.parametrize("verb", cli.COMMANDS)
def test_every_verb_has_a_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([verb, "--help"], ["help", verb], ["--help", verb]):
        assert cli.dispatch(words) == 0
        out = capsys.readouterr().out
        assert "carerl" in out and verb in out and len(out.splitlines()) > 8


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_help_names_every_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.dispatch(words) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert listed == list(cli.COMMANDS)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.dispatch(["--version"]) == 0
    assert capsys.readouterr().out == f"carerl {__version__}\n"


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["cmpare", "runs"], "did you mean carerl compare?"),
        (["--fetch"], "did you mean carerl fetch?"),
        (["xyz"], "choose one of carerl run, carerl evaluate"),
        (["recipe=care_grpo_tiny", "seed=7"], "write carerl run recipe=care_grpo_tiny seed=7"),
    ],
)
def test_an_unknown_verb_is_refused(words: list[str], remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.dispatch(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and remedy in captured.err


def test_the_help_is_light() -> None:
    """Seconds of processor time, as the wall's depend on what else the machine does."""
    program = (
        "import resource, sys; from carerl import cli; cli.dispatch(['--help']); cli.dispatch(['--version'])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    *_, seconds, loaded = done.stdout.splitlines()
    assert not {"torch", "ray", "transformers", "numpy", "rich", "omegaconf"} & set(loaded.split())
    assert float(seconds) < 0.3


@pytest.mark.parametrize("module", ["carerl", "carerl.fetch"])
def test_a_module_is_the_command_too(module: str) -> None:
    words = [module] if module != "carerl" else [module, "fetch"]
    done = subprocess.run([sys.executable, "-m", *words, "a", "b"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "write carerl fetch MODEL" in done.stderr


def test_a_plugin_in_the_working_directory_is_found(tmp_path: Path) -> None:
    """The script's own directory is the first on Python's path, and not the working directory."""
    (tmp_path / "my_plugin.py").write_text("print('imported')")
    words = ["run", "--help", "plugins=[my_plugin]"]
    program = f"import sys; sys.path[0] = '/nowhere'; from carerl.cli import dispatch; dispatch({words})"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0 and done.stdout.startswith("imported\n"), done.stderr


def test_options_are_taken_from_among_the_words() -> None:
    words = ["steps=3", "count=2", "b", "quick=true", "count=1_0", "count=4"]
    with pytest.raises(ConfigError):
        cli.take(words, Options)  # every value is read, also one that a later word replaces
    assert cli.take([*words[:4], words[5]], Options) == (Options(count=4, quick=True), ["steps=3", "b"])


@pytest.mark.parametrize(
    ("words", "field", "said"),
    [
        (["a", "count=0"], "count", "from 1 to 9"),
        (["a", "count=²"], "count", "not a whole number"),
        (["a", "quick=maybe"], "quick", "true or false"),
        (["a", "cuont=2"], "cuont", "did you mean count=?"),
        (["a", "--quick"], "--quick", "did you mean quick=?"),
        (["a", "x=1"], "x", "./x=1"),
        ([], "FILE…", "write carerl try FILE…"),
    ],
)
def test_refusals_name_field_reason_and_remedy(words: list[str], field: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cli.read(words, Options, "try FILE…")
    assert caught.value.field == field and said in str(caught.value)


def test_arguments_are_counted_and_a_file_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x=1").write_text("")
    Path("--fast").write_text("")
    assert cli.read(["x=1", "-", "a/b=2", "--fast"], Options, "try FILE…")[1] == ["x=1", "-", "a/b=2", "--fast"]
    for words, said in ((["a"], "1 given, 2 wanted"), (["a", "b", "c"], "3 given, 2 wanted")):
        with pytest.raises(ConfigError, match=said):
            cli.read(words, Options, "try IN OUT")
    with pytest.raises(ConfigError, match="key=value"):
        cli.read(["a"], Options, "try")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (ConfigError("seed", -1, "why", "what"), 2, "seed = -1 is refused"),
        (RunError("it cannot go on"), 1, "it cannot go on\n"),
        (KeyboardInterrupt(), 130, "stopped here"),
    ],
)
def test_every_command_ends_alike(
    raised: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(words: list[str]) -> int:
        raise raised

    assert cli.answer(["a"], body, "help", interrupted="stopped here") == code
    captured = capsys.readouterr()
    assert captured.out == "" and said in captured.err and "Traceback" not in captured.err


def test_what_nobody_foresaw_is_raised() -> None:
    def body(words: list[str]) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.answer(["a"], body, "help")
