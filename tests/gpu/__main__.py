"""Checks on a GPU what no CPU can show: kernels, speed, memory, and vLLM beside a learner on one card.

    python -m tests.gpu                        all sections, in the order of the table below, 560 s at most
    python -m tests.gpu head learner packed    some of them; these three need no vLLM
    TOY=1 python -m tests.gpu                  the same three on the CPU, in tiny shapes: shows that the commands work
    TOY=1 python -m tests.gpu engine sync ipc  three more, with vLLM for the CPU

Run it from a checkout, on a host with one GPU of 80 GB and the packages of ``cluster/locks/`` for GPUs. It needs no
network and no weights, as models are drawn. Each section is a process of its own with a deadline. So a crash, a lack of
memory or a hang is a row of the result and costs no other section.

A row is {section, name, value, bar, ok}: ``bar`` is what the value is held to, and ``ok`` says whether it holds (null
without a bar). Rows are printed, and appended to ``$OUT/gpu_check.jsonl``, one JSON object a line. The exit code is the
number of bars missed, or 64 for words that are not understood.

**Nothing here has run on a GPU yet.** The bars are derived from data sheets, or taken from others' figures.
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
    "engine_mp": Section("tests.gpu.engine:run_apart", 150, vllm=True),
}
TOTAL_SECONDS = 560
REFUSED = 64  # of a command that is not understood, in sysexits.h


def main(words: list[str], toy: bool, out: str | None, sections: Mapping[str, Section] = SECTIONS) -> int:
    """Runs the sections that are named, or all; returns the exit code."""
    if "-h" in words or "--help" in words:
        print(__doc__, "\nSections:", ", ".join(sections))
        return 0
    if unknown := [word for word in words if word not in sections]:
        print(f"no such section: {', '.join(unknown)}; there are {', '.join(sections)}", file=sys.stderr)
        return REFUSED
    if toy and (large := [word for word in words if not sections[word].toy]):
        print(f"{', '.join(large)}: has no toy run", file=sys.stderr)
        return REFUSED
    every = [name for name, section in sections.items() if not toy or (section.toy and not section.vllm)]
    chosen = {name: section for name, section in sections.items() if name in (words or every)}
    rows = run(chosen, TOTAL_SECONDS, Path(out) if out else None)
    return sum(row.ok is False for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], bool(os.environ.get("TOY")), os.environ.get("OUT")))
