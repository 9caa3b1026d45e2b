r"""The pool of grader processes: verdicts as in this process, limits, replacement, order, threads, and no orphans.

One pool serves most tests: starting its nursery loads sympy. Not covered: Ray actors (``tests/e2e``).
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carerl.backends.grader_pool import GraderPool, Job
from carerl.tasks.grading import GRADERS, Gold
from carerl.types import Outcome

ROOT = Path(__file__).resolve().parents[2]
FIVE = Gold(("5",))
# Compute for minutes in native code or in sympy, though no number in them is large.
SLOW = r"\int_0^1 \sqrt{1+\sin(x^3+e^{x})} \log(1+x^{x}) dx"


def job(answer: str, gold: str = "5") -> Job:
    return Job("math", rf"\boxed{{{answer}}}", Gold((gold,)))


@pytest.fixture(scope="module")
def pool() -> Iterator[GraderPool]:
    with GraderPool(workers=2, seconds=3.0, memory_mib=512) as pool:
        yield pool


def running(pid: int) -> bool:
    """Whether a process exists and is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def all_gone(pids: list[int], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(running, pids)):
        time.sleep(0.05)
    return not any(map(running, pids))


def test_verdicts_are_those_of_this_process_in_order(pool: GraderPool) -> None:
    answers = ["5", "7", r"\frac{10}{2}", "x", "2+3", "(1,2)", "", "5.0", r"\sqrt{25}", "9^{9^{9^9}}"] * 30
    jobs = [job(a) for a in answers]
    done: list[int] = []
    verdicts = pool.grade(jobs, done.append)
    assert verdicts == [GRADERS["math"].grade(j.response, j.gold, False) for j in jobs]
    assert sum(done) == len(jobs)
    assert pool.grade([]) == []


def test_what_takes_too_long_is_invalid_alone_and_its_neighbours_are_graded(pool: GraderPool) -> None:
    jobs = [job("5") for _ in range(40)]
    jobs[7] = jobs[23] = job(SLOW)
    start = time.monotonic()
    outcomes = [v.outcome for v in pool.grade(jobs)]
    assert [k for k, o in enumerate(outcomes) if o is not Outcome.CORRECT] == [7, 23]
    assert outcomes[7] is outcomes[23] is Outcome.INVALID
    assert time.monotonic() - start < 2 * pool.seconds + 10


def test_an_answer_that_kills_its_process_is_invalid_alone(pool: GraderPool) -> None:
    """Killed from outside while it works: the same to the caller as a crash in native code."""
    jobs = [job("5") for _ in range(40)]
    jobs[11] = job(SLOW)
    results: list[Outcome] = []
    thread = threading.Thread(target=lambda: results.extend(v.outcome for v in pool.grade(jobs)))
    before = set(pool.pids())
    thread.start()
    victim = None
    end = time.monotonic() + pool.seconds
    while victim is None and time.monotonic() < end:
        victim = next((p for p in pool.pids()[1:] if _cpu_seconds(p) > _CPU.get(p, 0) + 0.7), None)
    if victim is not None:
        os.kill(victim, signal.SIGKILL)
    thread.join()
    assert [k for k, o in enumerate(results) if o is not Outcome.CORRECT] == [11]
    assert pool.pids()[0] in before, "the nursery lives on"


_CPU: dict[int, float] = {}


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    _CPU.setdefault(pid, used)
    return used


def test_a_worker_may_take_so_much_memory_and_no_more(pool: GraderPool) -> None:
    pool.grade([job("5")] * 64)
    for pid in pool.pids()[1:]:
        limit = resource.prlimit(pid, resource.RLIMIT_AS)[0]
        size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        assert 0 < limit - size <= 512 * 2**20


@pytest.mark.slow
def test_a_nursery_that_dies_is_started_again_and_nothing_is_blamed() -> None:
    with GraderPool(workers=1, seconds=60.0) as pool:
        assert pool.grade([job("5")])[0].outcome is Outcome.CORRECT
        first = pool.pids()
        os.kill(first[0], signal.SIGKILL)
        assert all_gone(first)
        assert [v.outcome for v in pool.grade([job("5"), job("6")])] == [Outcome.CORRECT, Outcome.WRONG]
        second = pool.pids()
        assert not set(first) & set(second)
    assert all_gone(second)


def test_threads_share_a_pool(pool: GraderPool) -> None:
    results: dict[int, list[Outcome]] = {}

    def work(k: int) -> None:
        results[k] = [v.outcome for v in pool.grade([job(str(n)) for n in range(k, k + 20)])]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, outcomes in results.items():
        assert [n for n, o in zip(range(k, k + 20), outcomes, strict=True) if o is Outcome.CORRECT] == [5]


def test_the_nursery_has_one_thread(pool: GraderPool) -> None:
    pool.grade([job("5")])
    assert len(os.listdir(f"/proc/{pool.pids()[0]}/task")) == 1


def test_unreasonable_settings_are_refused() -> None:
    for settings in ({"workers": 0}, {"seconds": 0.0}, {"memory_mib": 0}):
        with pytest.raises(ValueError, match="positive"):
            GraderPool(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_no_process_outlives_its_caller(end: signal.Signals) -> None:
    """Neither one that is killed nor one that is interrupted, in the middle of an answer that takes minutes."""
    script = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job of a shell ignores it
        "from carerl.backends.grader_pool import GraderPool, Job\n"
        "from carerl.tasks.grading import Gold\n"
        "pool = GraderPool(workers=2, seconds=600)\n"
        "pool.grade([Job('math', r'\\boxed{5}', Gold(('5',)))] * 64)\n"
        "print(*pool.pids(), flush=True)\n"
        f"pool.grade([Job('math', r'\\boxed{{{SLOW}}}', Gold(('5',)))] * 8)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) >= 2 and all(map(running, pids))
    used = {pid: _cpu_seconds(pid) for pid in pids}
    while not any(_cpu_seconds(pid) > used[pid] + 0.3 for pid in pids):
        assert process.poll() is None
    process.send_signal(end)
    process.wait(60)
    assert all_gone(pids)
