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

from carerl.grading import GRADERS, Gold, Verdict
from carerl.grading.pool import WALL_LEAST, Compared, GraderPool, Job
from carerl.grading.votes import same, vote
from carerl.types import Outcome
from tests.benchmarks.grading_throughput import gsm8k_like, measure

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


@pytest.fixture(scope="module")
def pool_of_one() -> Iterator[GraderPool]:
    with GraderPool(workers=1, seconds=1.0) as pool:
        pool.grade([job("5")])
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
    wanted = [GRADERS["math"].grade(j.response, j.gold, False) for j in jobs]
    assert verdicts == wanted and wanted[9].reason == "limit: an exponent too large"
    assert sum(done) == len(jobs)
    voted = pool.grade_and_vote(jobs)
    assert [(v.verdict, v.vote) for v in voted] == [(w, vote("math", w, FIVE)) for w in wanted]
    assert pool.grade([]) == pool.grade_and_vote([]) == pool.compare([]) == []


def test_comparisons_are_those_of_this_process_in_order(pool: GraderPool) -> None:
    pairs = [(r"1+\pi", r"\pi+1"), ("x", "y"), ("1,2", "(1,2)"), ("(1,2)", "1,2"), ("2x", "x+x"), ("", "")] * 20
    assert [found.same for found in pool.compare(pairs)] == [same(*pair) for pair in pairs]
    assert not any(found.reason for found in pool.compare(pairs))


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ((r"10^{10^9}", r"10^{10^9}+1"), "limit: "),
        (("1E999999", "1E999998+x"), "time: more than 3 s of processor time"),
        ((r"\int\log(\sin(x)+\sqrt{x})dx", "x"), "time: "),
    ],
)
def test_a_pair_that_exceeds_a_limit_is_different_and_says_so(
    pool: GraderPool, pair: tuple[str, str], reason: str
) -> None:
    equal = (r"1+\pi", r"\pi+1")
    found = pool.compare([equal, pair, equal])
    assert found[0] == found[2] == Compared(True)
    assert not found[1].same and found[1].reason.startswith(reason)


def test_what_takes_too_long_is_invalid_alone_and_its_neighbours_are_graded(pool: GraderPool) -> None:
    jobs = [job("5") for _ in range(40)]
    jobs[7] = jobs[23] = job(SLOW)
    start = _children_seconds(pool)
    verdicts = pool.grade(jobs)
    assert [k for k, v in enumerate(verdicts) if v.outcome is not Outcome.CORRECT] == [7, 23]
    assert verdicts[7] == verdicts[23] == Verdict(Outcome.INVALID, None, "time: more than 3 s of processor time")
    used = _children_seconds(pool) - start
    assert pool.seconds < used < 3.5 * pool.seconds, "neither is tried again"


def busy_worker(pool: GraderPool, but: tuple[int, ...] = ()) -> int:
    """The pid of a worker that has been at work for longer than an ordinary answer takes."""
    end = time.monotonic() + 200
    while time.monotonic() < end:
        for pid in pool.pids()[1:]:
            if pid not in but and _cpu_seconds(pid) > _CPU[pid] + 0.7:
                return pid
        time.sleep(0.01)
    raise AssertionError("no worker is at work")


def test_an_answer_that_kills_its_process_twice_is_invalid_alone() -> None:
    """Killed from outside while it works: the same to the caller as a crash in native code."""
    with GraderPool(workers=2, seconds=600) as pool:
        jobs = [job("5") for _ in range(40)]
        jobs[11] = job(SLOW)
        found: list[Verdict] = []
        thread = threading.Thread(target=lambda: found.extend(pool.grade(jobs)))
        thread.start()
        while not pool.pids():
            time.sleep(0.01)
        nursery = pool.pids()[0]
        first = busy_worker(pool)
        os.kill(first, signal.SIGKILL)
        second = busy_worker(pool, but=(first,))
        assert thread.is_alive() and second != first, "it is tried once more, in a process of its own"
        os.kill(second, signal.SIGSEGV)
        thread.join()
        assert [k for k, v in enumerate(found) if v.outcome is not Outcome.CORRECT] == [11]
        assert found[11] == Verdict(Outcome.INVALID, None, "crash: the process ended by SIGSEGV")
        assert pool.pids()[0] == nursery, "the nursery lives on"


def in_hand(pool: GraderPool, jobs: list[Job], found: list[Verdict]) -> threading.Thread:
    """Has a stopped worker handed some jobs."""
    os.kill(pool.pids()[1], signal.SIGSTOP)
    thread = threading.Thread(target=lambda: found.extend(pool.grade(jobs)))
    thread.start()
    while not pool._workers[0].chunk:
        time.sleep(0.01)
    return thread


def test_a_right_answer_is_not_blamed_for_the_death_of_its_worker(pool_of_one: GraderPool) -> None:
    found: list[Verdict] = []
    thread = in_hand(pool_of_one, [job("5"), job("6"), job("5")], found)
    os.kill(pool_of_one.pids()[1], signal.SIGKILL)
    thread.join()
    assert [v.outcome for v in found] == [Outcome.CORRECT, Outcome.WRONG, Outcome.CORRECT]


def test_a_right_answer_is_not_blamed_for_a_machine_that_stands_still(pool_of_one: GraderPool) -> None:
    """Stopped for longer than the limit of processor time; at the limit of wall time a fresh worker has another try."""
    found: list[Verdict] = []
    thread = in_hand(pool_of_one, [job("5"), job("6")], found)
    stopped = pool_of_one.pids()[1]
    time.sleep(1.5 * pool_of_one.seconds)
    os.kill(stopped, signal.SIGCONT)
    thread.join()
    assert [v.outcome for v in found] == [Outcome.CORRECT, Outcome.WRONG]
    assert pool_of_one.pids()[1] == stopped, "nothing was ended"
    found.clear()
    pool_of_one.wall_seconds = 0.2
    thread = in_hand(pool_of_one, [job("5")], found)
    thread.join(0.3)
    pool_of_one.wall_seconds = WALL_LEAST
    thread.join()
    assert [v.outcome for v in found] == [Outcome.CORRECT]
    assert not running(stopped)


def test_an_answer_that_takes_too_much_memory_is_invalid_alone() -> None:
    """Many paragraphs of wide characters take 4 MiB; with a limit as it is in use there is nothing to it.

    The limit is on new address space. A worker begins with up to 2 MiB of free heap, more in one environment than in
    another, so that an answer which takes that much may or may not reach the limit."""
    hungry, fine = Job("choice", "\U0001f600\n\n" * 33_333, FIVE), Job("selfaware", "5", FIVE)
    with GraderPool(workers=1, seconds=20.0, memory_mib=1) as pool:
        verdicts = pool.grade([fine, hungry, fine])
        assert [v.outcome for v in verdicts] == [Outcome.CORRECT, Outcome.INVALID, Outcome.CORRECT]
        assert verdicts[1].reason == "memory: more than 1 MiB"


_CPU: dict[int, float] = {}


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    _CPU.setdefault(pid, used)
    return used


def _children_seconds(pool: GraderPool) -> float:
    """Processor time of the nursery and of all workers, ended ones included."""
    fields = Path(f"/proc/{pool.pids()[0]}/stat").read_text().rpartition(")")[2].split() if pool.pids() else ["0"] * 15
    ticks = sum(int(fields[k]) for k in (11, 12, 13, 14))
    return ticks / os.sysconf("SC_CLK_TCK") + sum(map(_cpu_seconds, pool.pids()[1:]))


def test_a_thousand_answers_are_graded_by_the_same_processes(pool: GraderPool) -> None:
    """A process for each answer would be a hundred times slower: tests/benchmarks/grading_throughput.py."""
    pool.grade([job("5")] * 64)
    before = pool.pids()
    assert all(v.outcome is Outcome.CORRECT for v in pool.grade([job("5")] * 1000))
    assert pool.pids() == before and len(before) == 3


@pytest.mark.slow
def test_five_hundred_grades_a_second_of_a_core(pool: GraderPool) -> None:
    """By processor time, so that other work on the machine does not count. Measured: 2,600; 33 with a process each."""
    jobs = gsm8k_like(3000)
    pool.grade(jobs[:200])
    _, processors = measure(pool, jobs)
    assert len(jobs) / processors > 500
    _, processors = measure(pool, jobs[:50], a_process_each=True)
    assert 50 / processors < 500, "the bound can fail"


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
    for settings in ({"workers": 0}, {"seconds": 0.0}, {"memory_mib": 0}, {"wall_seconds": 0.0}):
        with pytest.raises(ValueError, match="positive"):
            GraderPool(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_no_process_outlives_its_caller(end: signal.Signals) -> None:
    """Neither one that is killed nor one that is interrupted, in the middle of an answer that takes minutes."""
    script = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job of a shell ignores it
        "from carerl.grading.pool import GraderPool, Job\n"
        "from carerl.grading import Gold\n"
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
