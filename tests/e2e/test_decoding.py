"""``carerl evaluate decode.methods=…`` as a person calls it: Ray, both engines, a stop and its resumption.

What methods make of traces is ``tests/inference``'s; what is drawn, graded and kept is ``controller/test_decoding``'s.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carerl.runs.decoded import Stored, read_decoded
from carerl.runs.tables import read_evaluations
from carerl.runs.thresholds import read_thresholds
from tests.backends.model_directories import untrained_base

METHODS = ("greedy", "self_consistency", "self_certainty", "deepconf", "cat")
WORDS = [
    f"decode.methods=[{','.join(METHODS)}]", "decode.budget=4", "decode.deepconf.warmup=2", "samples=1",
    "questions=60", "task.validation_questions=10", "tracking.display=plain",
]  # fmt: skip


def arguments(*words: str) -> list[str]:
    return [sys.executable, "-m", "carerl.evaluate", *words]


def shape(one: Stored) -> Any:
    """A stored question but for its seconds, and for floats, whose last digits depend on what shares a batch."""
    decoded = one.answered.decoded
    trees = [replace(branch, weight=0.0, confidences=()) for branch in decoded.branches]
    return one.suite, one.method, one.number, trees, decoded.winner, decoded.tokens, one.answered.outcomes


@pytest.mark.e2e
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("engine", [pytest.param("hf", marks=pytest.mark.long), "vllm"])
def test_five_methods_stopped_and_resumed_are_those_never_stopped(engine: str, tmp_path: Path) -> None:
    base = untrained_base(tmp_path / "base")
    words = [f"model={base}", f"engine={engine}", *WORDS]
    process = subprocess.Popen(
        arguments(*words, "out=stopped"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "stage: q3 · cat" in line:
            process.send_signal(signal.SIGINT)
            break
    rest, errors = process.communicate(timeout=400)
    assert process.returncode == 128 + signal.SIGINT, "".join(said) + rest + errors
    assert "stopped; the same command with out=" in rest
    assert not read_decoded(tmp_path / "stopped" / "evaluations", 0)
    learned = read_thresholds(tmp_path / "stopped" / "evaluations", 0)
    for place in ("stopped", "whole"):
        done = subprocess.run(
            arguments(*words, f"out={place}"), cwd=tmp_path, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stderr
        assert "methods of inference on questions of 3 steps" in done.stdout
        assert all(method in done.stdout for method in METHODS)
    stopped, whole = (read_decoded(tmp_path / place / "evaluations", 0) for place in ("stopped", "whole"))
    assert [shape(one) for one in stopped] == [shape(one) for one in whole]
    assert len(whole) == 5 * len(METHODS) * 60
    assert read_thresholds(tmp_path / "stopped" / "evaluations", 0) == learned, "learned once"
    ours, theirs = (read_evaluations(tmp_path / p / "evaluations")[0]["metrics"] for p in ("stopped", "whole"))
    timed = {name for name in ours if name.endswith("/seconds")}
    assert len(timed) == 5 * len(METHODS)
    assert {n: v for n, v in ours.items() if n not in timed} == pytest.approx(
        {n: v for n, v in theirs.items() if n not in timed}, abs=1e-5
    )
    _shown(arguments(*words, "out=whole"), whole, tmp_path)


def _shown(command: list[str], whole: list[Stored], cwd: Path) -> None:
    """A complete evaluation shows any question's trees, and asks nothing again."""
    wanted = next(one for one in whole if one.method == "cat" and any(b.pruned for b in one.answered.decoded.branches))
    done = subprocess.run(
        [*command, f"decode.show={wanted.answered.example_id}"], cwd=cwd, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "stage" not in done.stdout
    trees = done.stdout.partition("run directory:")[2]
    assert all(f"{wanted.answered.example_id} · {method}" in trees for method in METHODS)
    assert "pruned after step" in trees
    done = subprocess.run([*command, "decode.show=q9"], cwd=cwd, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2 and "no question with this id" in done.stderr
