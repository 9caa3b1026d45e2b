"""The commands as a person calls them: a process of its own, a fresh cluster, its exit code and what it prints."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from carerl.runs.samples import read_samples
from carerl.runs.tables import read_evaluations
from tests.backends.model_directories import Q_PROJ, reweighted, sound
from tests.config.test_published import write
from tests.controller.sweeps.test_comparison import PAPER

SMALL = [
    "steps=3", "prompts_per_step=8", "algorithm.group_size=4", "model.base_overrides=[steps=40]",
    "evaluation.questions=10", "evaluation.samples=4", "tracking.display=plain",
]  # fmt: skip


def command(module: str, *words: str, cwd: Path, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"carerl.{module}", *words], cwd=cwd, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_from_nothing_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``make run`` does, smaller: the base model is not there yet and is trained first."""
    monkeypatch.setenv("CARERL_CACHE", str(tmp_path / "cache"))
    done = command("run", "recipe=care_grpo_tiny", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "training it first, 40 steps" in done.stdout
    assert "step 3/3" in done.stdout and "base" in done.stdout and "UNKNOWABLE F1" in done.stdout
    (run_dir,) = (tmp_path / "runs").iterdir()
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", 3)
    (model,) = (path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in model.iterdir()}
    compared = command("compare", str(run_dir), f"out={tmp_path / 'compare'}", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    assert "care_grpo_tiny" in compared.stdout and (tmp_path / "compare" / "compare.html").exists()
    _evaluated_alone(run_dir, tmp_path)


def _evaluated_alone(run_dir: Path, tmp_path: Path) -> None:
    """The run's last model by itself: the same questions, sampled with the same seeds by weights read from disk and not
    sent by the learner, give the same tokens and figures. Done once, the command shows what it found."""
    out = tmp_path / "alone"
    done = command("evaluate", f"model={run_dir}", f"out={out}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = read_samples(out / "evaluations", 0), read_samples(run_dir / "evaluations", 3)
    key = ("suite", "number", "sample", "response_ids", "outcome", "answer")
    assert len(ours) == 5 * 10 * 4
    assert [[row[k] for k in key] for row in ours] == [[row[k] for k in key] for row in theirs]
    alone = read_evaluations(out / "evaluations")[0]["metrics"]
    in_loop = read_evaluations(run_dir / "evaluations")[-1]["metrics"]
    of_learner = {name for name in set(in_loop) - set(alone) if not re.match(r"(eval|calibration)/q3/step", name)}
    assert of_learner == {"eval/entropy", "eval/kl_per_sequence"}, "which need learner and reference, as steps do"
    assert alone == pytest.approx({name: in_loop[name] for name in alone}, abs=1e-6)
    again = command("evaluate", f"model={run_dir}", f"out={out}", cwd=tmp_path, timeout=60)
    assert again.returncode == 0 and again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    assert f"{alone['eval/accuracy']:.3f}" in again.stdout and "stage" not in again.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipe=care_grpo_tinny"], "care_grpo_tiny"),
        pytest.param(["recipe=care_grpo_tiny", "regularizer.beta=-1"], "regularizer.beta", marks=pytest.mark.slow),
        pytest.param(["recipe=care_grpo_tiny", "learner.rank=2"], "learner.ranks", marks=pytest.mark.slow),
        pytest.param(["recipe=care_grpo_tiny", "rollout.max_model_len=10"], "max_model_len", marks=pytest.mark.slow),
        (["recipe=care_grpo_tiny", "model.path=./no_such_model"], "no_such_model"),
        (["recipe=care_grpo_tiny", "rollout.cpus_per_actor=500"], "rollout"),
    ],
)
def test_bad_input_is_refused_in_words_with_exit_code_2(words: list[str], said: str, tmp_path: Path) -> None:
    done = command("run", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("run", ["recipe=care_grpo_tiny", "model.path=model"]),
        pytest.param("run", ["recipe=care_grpo_tiny", "model.path=model", "rehearse=true"], marks=pytest.mark.slow),
        pytest.param("evaluate", ["model=model", "benchmarks=[rows.jsonl]", "engine=hf"], marks=pytest.mark.slow),
    ],
)
def test_a_model_without_all_its_weights_is_refused_before_anything_starts(
    program: str, words: list[str], tmp_path: Path
) -> None:
    reweighted(sound(tmp_path / "model"), lambda w: {name: t for name, t in w.items() if name != Q_PROJ})
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    done = command(program, *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"missing in its files: {Q_PROJ}" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists() and "stage" not in done.stdout


@pytest.mark.e2e
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_signal_ends_a_run_saved_and_it_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "carerl.run", "recipe=care_grpo_tiny", *SMALL, "steps=500"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = tmp_path / "runs"
    deadline = time.monotonic() + 400
    while not any("train/loss" in file.read_text() for file in metrics.glob("*/metrics.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(number)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 128 + number
    assert "resume it with: python -m carerl.run resume=" in out
    (run_dir,) = metrics.iterdir()
    at = json.loads((run_dir / "summary.json").read_text())["steps"]
    resumed = command("run", f"resume={run_dir}", f"steps={at + 2}", "evaluation.at_end=false", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    steps = [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(at + 3))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_learner_ranks_two_engines_and_the_plain_engine(tmp_path: Path) -> None:
    """More than one of each actor, and the reference on the learner's ranks: the same rollouts, and the same learning
    but for the order of sums."""
    rows = {}
    for name, extra in {
        "one": [],
        "two": ["learner.ranks=2", "rollout.actors=2", "reference.actors=2", "grading.actors=2",
                "learner.cpus_per_rank=.1", "rollout.cpus_per_actor=.1", "reference.cpus_per_actor=.1"],
        "within": ["learner.ranks=2", "learner.cpus_per_rank=.1", "reference.place=learner"],
        "plain": ["rollout.engine=hf"],
    }.items():  # fmt: skip
        done = command("run", "recipe=care_grpo_tiny", *SMALL, *extra, f"run_dir={tmp_path / name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        rows[name] = [row for row in map(json.loads, lines) if "train/loss" in row]
    first = {name: found[0] for name, found in rows.items()}
    assert first["two"]["rollout/accuracy"] == first["one"]["rollout/accuracy"]
    for metric in ("train/loss", "train/grad_norm", "regularizer/reverse_kl", "train/entropy"):
        for name in ("two", "within"):
            assert first[name][metric] == pytest.approx(first["one"][metric], rel=1e-4, abs=1e-6)
    assert all(row["rollout/mismatch_max"] < 1e-5 for found in rows.values() for row in found)


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_a_sweep_keeps_going_past_a_failed_cell_and_can_be_repeated(tmp_path: Path) -> None:
    """And it ends in the comparison, beside a paper's figures; the base was evaluated once."""
    write(tmp_path, "mine", PAPER | {"settings": {"model.path": "base_tiny"}})
    (tmp_path / "recipes" / "sweeps").mkdir()
    rows = ["recipe=none_grpo_tiny", "recipe=care_grpo_tiny sync.probe_q999_abort=1e-12", "recipe=care_grpo_tiny"]
    spec = {"published": "mine", "settings": " ".join(SMALL[:-1]), "rows": rows}
    (tmp_path / "recipes" / "sweeps" / "mine.yaml").write_text(json.dumps(spec))
    words = ["sweep=mine", "seed=100", f"out={tmp_path / 's'}"]
    done = command("sweep", *words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "2 of 3 cells complete" in done.stdout and "sync.probe_q999_abort" in done.stdout
    bases = {path.parents[1].name: json.loads(path.read_text()) for path in tmp_path.glob("s/*/*/step_000000.json")}
    assert {name: base.get("taken_from") for name, base in bases.items()} == {
        "none_grpo_tiny-seed-100": None,
        "care_grpo_tiny-seed-100": "none_grpo_tiny-seed-100",
    }
    begin = time.monotonic()
    again = command("sweep", *words, cwd=tmp_path)
    assert "3 cells, 2 complete already" in again.stdout and time.monotonic() - begin < 400
    assert "compared: " in again.stdout
    text = (tmp_path / "s" / "compare" / "compare.md").read_text()
    assert "| GRPO | paper |  | 0.500 |" in text and "| CARE | paper |  | 0.600 |" in text
    assert len(re.findall(r"\| ours \| 1 \| 0\.\d{3} \[.*\] \([+-]0\.\d{3}\) \|", text)) == 2, text
    assert "sync.probe_q999_abort=1e-12" in text.partition("Absent cells:")[2]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_sweep_is_rehearsed_whole_beside_the_real_one(tmp_path: Path) -> None:
    words = ["recipe=none_grpo_tiny,care_dapo_tiny", "seed=100", f"out={tmp_path / 's'}", "rehearse=true"]
    done = command("sweep", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cells complete" in done.stdout and not (tmp_path / "s").exists()
    place = tmp_path / "rehearse_s"
    assert "REHEARSALS" in (place / "compare" / "compare.md").read_text()
    assert not list(place.glob("*/checkpoints"))
    assert "2 cells, 2 complete already" in command("sweep", *words, cwd=tmp_path).stdout


def test_help_names_every_recipe_and_needs_no_cluster(tmp_path: Path) -> None:
    done = command("run", "recipe=?", cwd=tmp_path)
    assert done.returncode == 0
    folder = Path(__file__).resolve().parents[2] / "recipes"
    for recipe in folder.glob("*.yaml"):
        assert recipe.stem in done.stdout
    assert command("run", cwd=tmp_path).stdout == done.stdout


def test_commands_can_be_called_from_anywhere(tmp_path: Path) -> None:
    done = command("run", "recipe=care_grpo_7b", "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "GPU-hours" in done.stdout or "GPU hours" in done.stdout
