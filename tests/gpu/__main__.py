"""Checks on a GPU what no CPU can show: kernels, speed, memory, and vLLM beside a learner on one card.

    python -m tests.gpu colocated              three whole runs on one card, as their recipes are: see below
    python -m tests.gpu                        all sections, in the order of the table below, 560 s at most
    python -m tests.gpu head learner packed    some of them; these three need no vLLM
    TOY=1 python -m tests.gpu                  the same three on the CPU, in tiny shapes: shows that the commands work
    TOY=1 python -m tests.gpu colocated        these too, with vLLM for the CPU; so engine sync ipc turns

On a host with one GPU of 80 GB or more, in a checkout:

    LOCK=gpu make setup
    OUT=. .venv/bin/python -m tests.gpu colocated

It needs no network from there on, and no weights, as models are drawn. Without that set-up it runs where the packages
of ``cluster/locks/`` for GPUs are; ``colocated`` does without wandb, datasets, deepspeed and gguf. Temporary files go
where ``TMPDIR`` says and are removed at the end: for ``colocated`` 30 GB must be free there. It takes 64 GiB of main
memory. Ray's sockets lie there too, so that the path must be short.

Each section is a process of its own with a deadline. So a crash, a lack of memory or a hang is a row of the result and
costs no other section. ``colocated`` means its three sections, of 0.5B, 1.5B and 7B: one can be run alone.

A row is {section, name, value, bar, ok}: ``bar`` is what the value is held to, and ``ok`` says whether it holds (null
without a bar). Rows are printed when their section ends, and appended to ``$OUT/gpu_check.jsonl`` as they are found:
a JSON object a line. The exit code is the number of bars missed, or 64 for words that are not understood.

**Nothing here has run on a GPU yet.** The bars are derived from data sheets, or taken from others' figures; those of
``colocated`` are goals, and its shares are of what the card itself reaches in the same process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.gpu.runner import Section, run

# Those that can tell most a second come first, in case that time runs out.
SECTIONS = {
    "head": Section("tests.gpu.head:run", 60, toy=True),
    "sync": Section("tests.gpu.sync:run", 170, vllm=True, toy=True),
    "learner": Section("tests.gpu.learner:run", 150, toy=True),
    "packed": Section("tests.gpu.packed:run", 45, toy=True),
    "engine": Section("tests.gpu.engine:run", 150, vllm=True, toy=True),
    "ipc": Section("tests.gpu.ipc:run", 90, vllm=True, toy=True),
    "turns": Section("tests.gpu.turns:run", 120, vllm=True, toy=True),
    "memory": Section("tests.gpu.memory:run", 30),
    "invariant": Section("tests.gpu.invariant:run", 150, vllm=True),
    "engine_mp": Section("tests.gpu.engine:run_apart", 150, vllm=True),
    "colocated_0_5b": Section("tests.gpu.colocated:run_0_5b", 170, vllm=True, toy=True),
    "colocated_1_5b": Section("tests.gpu.colocated:run_1_5b", 200, vllm=True, toy=True),
    "colocated_7b": Section("tests.gpu.colocated:run_7b", 250, vllm=True, toy=True),
}
TOTAL_SECONDS = 560
REFUSED = 64  # of a command that is not understood, in sysexits.h


def main(words: list[str], toy: bool, out: str | None, sections: Mapping[str, Section] = SECTIONS) -> int:
    """Runs the sections that are named, or all; returns the exit code."""
    if "-h" in words or "--help" in words:
        print(__doc__, "\nSections:", ", ".join(sections))
        return 0
    asked = [name for word in words for name in named(word, sections)]
    if unknown := [word for word in words if not named(word, sections)]:
        print(f"no such section: {', '.join(unknown)}; there are {', '.join(sections)}", file=sys.stderr)
        return REFUSED
    if toy and (large := [name for name in asked if not sections[name].toy]):
        print(f"{', '.join(large)}: has no toy run", file=sys.stderr)
        return REFUSED
    every = [name for name, section in sections.items() if not toy or (section.toy and not section.vllm)]
    chosen = {name: section for name, section in sections.items() if name in (asked or every)}
    rows = run(chosen, TOTAL_SECONDS, Path(out) if out else None)
    return sum(row.ok is False for row in rows)


def named(word: str, sections: Mapping[str, Section]) -> list[str]:
    """Returns the sections that a word means: the one of this name, else all whose name begins with it and goes on with
    an underscore."""
    return [word] if word in sections else [name for name in sections if name.startswith(f"{word}_")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], bool(os.environ.get("TOY")), os.environ.get("OUT")))
