"""Models of the hub: a commit is found, kept, checked as a directory is. From the hub's cache without a network, and
from a server of this machine that answers as the hub does; the hub's own servers are not asked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from carerl.backends import hub
from carerl.config.load import dump, load, read
from carerl.config.reading.typed import plain
from carerl.config.schema import RunConfig
from carerl.config.sweep import differences
from carerl.controller.models import base_model, starting_weights
from carerl.controller.preparation import check_model, prepare, with_end_ids
from carerl.errors import ConfigError
from carerl.fetch import fetch
from tests.backends.hub_server import hub_of
from tests.backends.model_directories import Q_PROJ, WEIGHTS, reweighted, sound

ROOT = Path(__file__).resolve().parents[2]
NAME = "owner/name"
FIRST, SECOND = "a" * 40, "b" * 40


class Cache:
    """A hub's cache, laid out as its client does."""

    def __init__(self, root: Path) -> None:
        self.place = root / f"models--{NAME.replace('/', '--')}"

    def commit(self, commit: str, source: Path, branch: str = "main") -> Path:
        """Puts a directory there as a commit, and lets a branch or tag lead to it."""
        snapshot = self.place / "snapshots" / commit
        shutil.copytree(source, snapshot)
        (self.place / "refs").mkdir(exist_ok=True)
        (self.place / "refs" / branch).write_text(commit)
        return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    made = Cache(tmp_path / "hub")
    made.commit(FIRST, sound(tmp_path / "first"))
    return made


def settings(folder: Path, *words: str) -> RunConfig:
    rows = [json.dumps({"question": f"What is {n} + {n}?", "answer": str(2 * n)}) for n in range(4)]
    (folder / "train.jsonl").write_text("\n".join(rows))
    return load(
        ["recipe=care_grpo_tiny", f"model.path={NAME}", "task.name=jsonl", f"task.train={folder / 'train.jsonl'}",
         "task.benchmarks=[]", "rollout.max_model_len=200", "rollout.max_new_tokens=16", "regularizer.estimator=score",
         "evaluation.every=0", "evaluation.at_start=false", "evaluation.at_end=false",
         "model.shape.context_length=256", *words]
    )  # fmt: skip


def test_a_run_is_pinned_to_the_commit_that_it_found(cache: Cache, tmp_path: Path) -> None:
    config = base_model.pinned(settings(tmp_path))
    assert config.model.revision == FIRST
    cache.commit(SECOND, sound(tmp_path / "second", "llama"))
    assert base_model.pinned(config).model.revision == FIRST, "the name stands for other files by now"
    assert base_model.pinned(settings(tmp_path)).model.revision == SECOND
    for revision in (FIRST, SECOND):
        folder = Path(hub.model_files(NAME, revision, hub.WHOLE))
        assert folder.name == revision and (folder / WEIGHTS).is_file()
    assert json.loads((Path(hub.model_files(NAME, FIRST)) / "config.json").read_text())["model_type"] == "qwen3"


def test_a_tag_or_branch_becomes_its_commit(cache: Cache, tmp_path: Path) -> None:
    cache.commit(SECOND, tmp_path / "first", branch="v1.0")
    assert base_model.pinned(settings(tmp_path, "model.revision=v1.0")).model.revision == SECOND
    assert base_model.pinned(settings(tmp_path, f"model.revision={SECOND}")).model.revision == SECOND


def test_the_commit_is_in_the_record_and_another_one_is_refused(cache: Cache, tmp_path: Path) -> None:
    config = base_model.pinned(settings(tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(dump(config))
    starting_weights.record(run, NAME, config.model.revision)
    cache.commit(SECOND, sound(tmp_path / "second"))
    again = base_model.pinned(load([f"resume={run}"]))
    assert again.model.revision == FIRST == read(run / "config.yaml").model.revision
    said: list[str] = []
    starting_weights.check_unchanged(again, run, NAME, said.append)
    assert said == []
    with pytest.raises(ConfigError, match=r"model\.revision"):
        load([f"resume={run}", f"model.revision={SECOND}"])
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(FIRST, SECOND))
    with pytest.raises(ConfigError, match="not those that the run"):
        starting_weights.check_unchanged(load([f"resume={run}"]), run, NAME, said.append)


def test_a_commit_that_is_nowhere_is_refused(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"not in the hub's cache here.*{SECOND}"):
        check_model(settings(tmp_path, f"model.revision={SECOND}"), NAME)
    with pytest.raises(ConfigError, match="not in the hub's cache here"):
        base_model.pinned(settings(tmp_path, "model.revision=v9"))


def test_a_record_without_a_commit_is_said(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / starting_weights.RECORD).write_text(json.dumps({"model": NAME, "identity": f"hub:{NAME}"}))
    said: list[str] = []
    starting_weights.check_unchanged(base_model.pinned(settings(tmp_path)), tmp_path, NAME, said.append)
    assert len(said) == 1 and "names no commit of owner/name" in said[0]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"model": 1}', '{"model": "x"}'])
def test_a_damaged_or_missing_record_is_said(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / starting_weights.RECORD).write_text(content)
    said: list[str] = []
    starting_weights.check_unchanged(load(["recipe=care_grpo_tiny"]), tmp_path, "", said.append)
    assert len(said) == 1 and "is not checked" in said[0] and starting_weights.RECORD in said[0]
    assert ("cannot be read" in said[0]) is (content is not None)


def test_a_hub_model_passes_the_checks_of_a_directory(cache: Cache, tmp_path: Path) -> None:
    config = base_model.pinned(settings(tmp_path))
    task, tokenizer = prepare(config, NAME)
    assert with_end_ids(config, task, NAME).rollout.end_ids == [tokenizer.eos_token_id]
    reweighted(cache.place / "snapshots" / FIRST, lambda w: {n: t for n, t in w.items() if n != Q_PROJ})
    with pytest.raises(ConfigError, match="1 of the 25 tensors of its architecture are missing"):
        prepare(config, NAME)


def test_of_a_hub_model_without_weights_here_the_rest_is_checked(cache: Cache, tmp_path: Path) -> None:
    """The actors' nodes may have them, and check what they load."""
    snapshot = cache.place / "snapshots" / FIRST
    (snapshot / WEIGHTS).unlink()
    config = base_model.pinned(settings(tmp_path))
    prepare(config, NAME)
    found = json.loads((snapshot / "config.json").read_text())
    (snapshot / "config.json").write_text(json.dumps({**found, "vocab_size": 10}))
    with pytest.raises(ConfigError, match="tokenizer and model disagree"):
        prepare(config, NAME)


def test_an_evaluated_or_fetched_model_may_have_a_revision(cache: Cache, tmp_path: Path) -> None:
    from carerl.config.evaluate import evaluation_config

    cache.commit(SECOND, tmp_path / "first", branch="v1.0")
    assert Path(fetch(f"{NAME}@v1.0")).name == SECOND and Path(fetch(NAME)).name == FIRST
    (tmp_path / "test.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    words = [f"model={NAME}", f"benchmarks=[{tmp_path / 'test.jsonl'}]", "engine=hf"]
    for more, commit in (([], FIRST), (["model.revision=v1.0"], SECOND)):
        config = evaluation_config([*words, *more], base_model.fetch_model)
        assert Path(config.model.path).name == commit and config.model.revision == ""


def test_data_of_the_hub_are_pinned_and_another_commit_is_refused(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's library is stood in for: it gives the rows of the commit that its cache has."""
    import datasets

    asked: list[str | None] = []

    def load_dataset(name: str, subset: str | None, split: str, revision: str | None) -> datasets.Dataset:
        asked.append(revision)
        rows = datasets.Dataset.from_list([{"question": "1 + 1?", "answer": "#### 2"}])
        rows.info.download_checksums = {f"hf://datasets/{name}@{FIRST}/main.parquet": {"num_bytes": 1}}
        return rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    refs = tmp_path / "hub" / "datasets--openai--gsm8k" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(FIRST)
    config = base_model.pinned(settings(tmp_path, "task.train=gsm8k_train"))
    assert config.task.hub_revisions == [f"openai/gsm8k@{FIRST}"]
    (refs / "main").write_text(SECOND)
    assert base_model.pinned(config).task.hub_revisions == [f"openai/gsm8k@{FIRST}"]
    task, _ = prepare(config, NAME)
    assert len(task.train_examples(0, 1)) == 1 and set(asked) == {FIRST}
    with pytest.raises(ConfigError, match=f"the cache holds commit {FIRST}, and the run was started with {SECOND}"):
        prepare(base_model.pinned(settings(tmp_path, "task.train=gsm8k_train")), NAME)
    stored, now = plain(config), plain(settings(tmp_path, "task.train=gsm8k_train"))
    assert differences(now, stored) == [], "a sweep's cell that is asked for again has found its commits itself"
    now["model"]["revision"] = SECOND
    assert [key for key, *_ in differences(now, stored)] == ["model.revision"]


ONLINE = """
import json, os, sys
from carerl.backends import hub
from carerl.errors import ConfigError
from carerl.config.load import load
from carerl.controller.models import base_model as base
from carerl.controller.preparation import check_model
for name in sys.argv[1:]:
    config = base.pinned(load(["recipe=care_grpo_3b", f"model.path={name}", "dry_run=true"]))
    fault, folder = "", hub.model_files(name, config.model.revision)
    try:
        check_model(config, name)
    except ConfigError as error:
        fault = error.reason
    before = os.listdir(folder)
    whole = os.listdir(hub.model_files(name, config.model.revision, hub.WHOLE))
    print(json.dumps([config.model.revision, config.task.hub_revisions, fault, before, whole]))
"""


def online(folder: Path, cache: Path, *names: str) -> list[tuple[str, list[str], str, list[str], list[str]]]:
    """What a process finds of each model on a hub: commits, the refusal, files before and after the weights."""
    with hub_of(folder, FIRST) as address:
        environment = os.environ | {
            "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip
        words = [sys.executable, "-c", ONLINE, *(f"owner/{name}" for name in names)]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_where_the_hub_answers_headers_are_read_and_no_weights(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for name in ("whole", "lacking", "pickled"):
        sound(models / name)
    reweighted(models / "lacking", lambda w: {name: t for name, t in w.items() if name != Q_PROJ})
    (models / "pickled" / WEIGHTS).rename(models / "pickled" / "pytorch_model.bin")
    whole, lacking, pickled = online(models, tmp_path / "cache", "whole", "lacking", "pickled")
    commit, data, fault, before, after = whole
    assert (commit, fault) == (FIRST, "")
    assert data and all(entry.endswith(f"@{FIRST}") for entry in data), "this hub has one commit for everything"
    assert WEIGHTS not in before and "config.json" in before and WEIGHTS in after
    _, _, fault, before, _ = lacking
    assert f"missing in its files: {Q_PROJ}" in fault and WEIGHTS not in before
    _, _, fault, before, _ = pickled
    assert "it has no safetensors files on the hub" in fault and "pytorch_model.bin" not in before


@pytest.mark.parametrize("path", ["", "model"])
def test_a_revision_of_what_is_not_on_the_hub_is_refused(tmp_path: Path, path: str) -> None:
    words = [f"model.path={sound(tmp_path / path)}"] if path else []
    with pytest.raises(ConfigError, match="only a model of the hub has revisions"):
        load(["recipe=care_grpo_tiny", "model.revision=v1", *words])
