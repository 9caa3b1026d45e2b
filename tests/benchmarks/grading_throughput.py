r"""Grades per second: answers as models give them to GSM8K's questions, through the pool of grader processes.

    python -m tests.benchmarks.grading_throughput [--answers 20000] [--workers 1]

``grades/s`` is by the clock. ``grades per core-second`` is by the processor time of caller, nursery and workers
together, loading left out: what a core gives that does nothing else, whatever else runs on the machine. The answers are
those of :func:`gsm8k_like`. ``a process an answer``: the same pool, its workers ended after each answer; what the pool
is for.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import time
from pathlib import Path

from carerl.grading import Gold
from carerl.grading.pool import GraderPool, Job

FORMS = (
    "{steps}\n#### {answer}",
    "{steps}\n#### {grouped}",
    "{steps}\nThe answer is {answer}.",
    "{steps}\nSo the total is \\boxed{{{answer}}}.",
    "{steps}\nTherefore, she pays $\\boxed{{\\${grouped}}}$.",
    "{steps}\nThe final answer is \\boxed{{{answer}\\text{{ dollars}}}}.",
    "{steps}\nIt takes {answer} hours.",
    "{steps}\nThe answer is \\boxed{{\\frac{{{double}}}{{2}}}}.",
    "{steps}\n#### {answer}.50",
    "{steps}",
)


def gsm8k_like(count: int, seed: int = 0) -> list[Job]:
    """Some twenty lines of working, then the answer in one of ``FORMS``; four of five answers are the gold answer."""
    rng = random.Random(seed)
    jobs = []
    for _ in range(count):
        gold = rng.choice((rng.randrange(100), rng.randrange(10_000), rng.randrange(2_000_000)))
        answer = gold if rng.random() < 0.8 else gold + rng.randrange(1, 50)
        lines = [
            f"Each of the {(a := rng.randrange(2, 40))} boxes holds {(b := rng.randrange(2, 90))} pens, which makes "
            f"{a} * {b} = <<{a}*{b}={a * b}>>{a * b} pens."
            for _ in range(rng.randrange(2, 20))
        ]
        text = rng.choice(FORMS).format(steps="\n".join(lines), answer=answer, grouped=f"{answer:,}", double=2 * answer)
        jobs.append(Job("gsm8k", text, Gold((str(gold),))))
    return jobs


def processor_seconds(pool: GraderPool) -> float:
    """Of this process, the nursery and its workers, ended ones included."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ticks = 0
    for place, pid in enumerate(pool.pids()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(fields[k]) for k in ((11, 12, 13, 14) if place == 0 else (11, 12)))
    return own.ru_utime + own.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def measure(pool: GraderPool, jobs: list[Job], a_process_each: bool = False) -> tuple[float, float]:
    """Seconds by the clock and of processors."""
    clock, processors = time.perf_counter(), processor_seconds(pool)
    if a_process_each:
        for job in jobs:
            for worker in list(pool._workers):
                pool._end(worker)
            pool.grade([job])
    else:
        pool.grade(jobs)
    return time.perf_counter() - clock, processor_seconds(pool) - processors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    jobs = gsm8k_like(options.answers)
    print("| arm | answers | seconds | grades/s | grades per core-second |\n|---|--:|--:|--:|--:|")
    with GraderPool(options.workers) as pool:
        pool.grade(jobs[:200])
        for arm, given in (("pool", jobs), ("a process an answer", jobs[: max(1, options.answers // 40)])):
            clock, processors = measure(pool, given, a_process_each=arm != "pool")
            rates = f"{len(given) / clock:.0f} | {len(given) / processors:.0f}"
            print(f"| {arm} | {len(given)} | {clock:.1f} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
