"""The peak resident memory of every actor of a real run, against what the plan says before it: within 15 %.

The kernel's own high-water mark is read (VmHWM), of the whole life of each actor: a checkpoint at the end counts too.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from string import ascii_lowercase

import pytest

from carerl.config.load import load
from carerl.config.plan.peaks import NEAR
from carerl.config.plan.resident import resident_parts
from carerl.config.shapes import effective_shape

ROLES = {
    "LearnerWorker": "learner",
    "EngineWorker": "rollout",
    "ReferenceWorker": "reference",
    "GraderWorker": "grading",
}
TINY = [
    "recipe=care_grpo_tiny", "steps=3", "evaluation.every=0", "evaluation.samples=2", "tracking.rollouts_every=0",
    "model.base_overrides=[steps=20]", "task.evaluation_questions=10", "task.evaluation_facts=10",
    "task.evaluation_unknown=10",
]  # fmt: skip
# The 135M model in two dtypes of its own recipe. No batch is large: what counts is what is there once for each weight.
SMALL = [
    "recipe=calibration_aware_1_7b", "model.path=smollm2", "task.thinking=default", "steps=1", "prompts_per_step=2",
    "algorithm.group_size=2", "cluster.gpus_per_node=0", "task.validation_questions=4", "tracking.wandb=off",
    "task.train_questions=20", "evaluation.questions=4", "evaluation.samples=1", "evaluation.every=0",
    "evaluation.scored_samples=1",
    "rollout.gpus_per_actor=0", "rollout.actors=1", "rollout.cpus_per_actor=.4", "rollout.max_new_tokens=16",
    "rollout.max_model_len=256", "rollout.max_batch_rows=64", "rollout.kv_cache_gib=.5",
    "learner.gpus_per_rank=0", "learner.ranks=1", "learner.cpus_per_rank=.2", "learner.micro_batch_rows=4",
    "learner.head_chunk_tokens=256", "reference.gpus_per_actor=0", "reference.actors=1",
    "reference.cpus_per_actor=.1", "reference.micro_batch_rows=4", "grading.actors=1", "grading.cpus_per_actor=.1",
]  # fmt: skip
WIDE = ["model.dtype=float32", "learner.compute_dtype=float32", "reference.compute_dtype=float32"]


def peaks(words: list[str], place: Path) -> dict[str, float]:
    """Runs these words; returns the peak of each role's largest actor, GiB."""
    with (place / "log").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "carerl", "run", *words, f"runs_dir={place}"], stdout=log, stderr=subprocess.STDOUT
        )
        found: dict[str, float] = {}
        try:
            while run.poll() is None:
                for role, gib in _now(run.pid):
                    found[role] = max(found.get(role, 0.0), gib)
                time.sleep(0.05)
        finally:
            run.terminate()  # of no effect where it has ended
    said = (place / "log").read_text()
    if "pip does not give" in said:
        pytest.skip("no package index, and smollm2 is not in the cache")
    assert run.returncode == 0, said[-3000:]
    return found


def _now(of: int) -> list[tuple[str, float]]:
    """Role and high-water mark of each actor that a process's Ray has."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            title = re.match(r"ray::(\w+)", (directory / "cmdline").read_text())
            if title and title[1] in ROLES and _descends(int(directory.name), of):
                mark = re.search(r"VmHWM:\s+(\d+)", (directory / "status").read_text())
                found += [(ROLES[title[1]], int(mark[1]) / 2**20)] if mark else []
        except (OSError, UnicodeDecodeError, ValueError):  # gone, or no process
            continue
    return found


def _descends(pid: int, of: int) -> bool:
    while pid > 1 and pid != of:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return pid == of


def data(place: Path) -> list[str]:
    """Questions in the files of the recipe's data sets, as long as theirs; no two are alike, or they are left out."""
    chooser = random.Random(0)
    for name in ("commonsenseqa_train", "commonsenseqa_dev", "openbookqa_train", "openbookqa_test"):
        choices = [{"label": label, "text": f"number {label}"} for label in "ABCDE"[: 5 if name[0] == "c" else 4]]
        rows = [
            {"id": f"{name}-{k}", "answer": "ABCD"[k % 4], "choices": choices,
             "question": " ".join("".join(chooser.choices(ascii_lowercase, k=5)) for _ in range(14)) + "?"}
            for k in range(40)
        ]  # fmt: skip
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"task.data_dir={place}"]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("words", [TINY, SMALL, [*SMALL, *WIDE]], ids=["tiny", "135M", "135M in float32"])
def test_an_actors_memory_is_as_planned(words: list[str], tmp_path: Path) -> None:
    words = [*words, *(data(tmp_path) if words is not TINY else [])]
    config = load(words)
    shape, _ = effective_shape(config)
    planned = {role: sum(resident_parts(config, shape, role).values()) for role in ROLES.values()}
    found = peaks(words, tmp_path)
    print({role: (round(found[role], 3), round(planned[role], 3)) for role in planned})
    assert planned == pytest.approx(found, rel=NEAR)
