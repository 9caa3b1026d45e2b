"""Where the learner's ranks meet: who may connect to it, and what they send each other."""

from __future__ import annotations

import ipaddress
import math
import multiprocessing
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from carerl.actors.workers.learner import LOOPBACK, LearnerWorker
from carerl.backends.learners.totals import gather_json
from carerl.loss.parity import Gaps

LISTENING = "0A"


def listening() -> list[str]:
    """The addresses that this process listens on, as Linux has them."""
    inodes = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(os.readlink(entry))
        except OSError:  # closed by now
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == LISTENING and f"socket:[{words[9]}]" in inodes:
                found.append(_address(words[1].split(":")[0]))
    return found


def _address(text: str) -> str:
    parts = [bytes.fromhex(part)[::-1] for part in re.findall("........", text)]
    address = ipaddress.ip_address(b"".join(parts))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[LearnerWorker]:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    yield LearnerWorker()
    dist.destroy_process_group()


def test_one_rank_opens_nothing_to_the_network(alone: LearnerWorker) -> None:
    before = listening()
    assert alone.meet(1, LOOPBACK) == 0
    alone.join(0, 1, LOOPBACK, 0, 0.0)
    dist.all_reduce(torch.ones(2))
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo", "by a host's name gloo may find another"
    opened = listening()
    for address in before:
        opened.remove(address)
    assert all(ipaddress.ip_address(address).is_loopback for address in opened), opened


def _rank(rank: int, port: Any, answers: Any) -> None:
    os.environ.pop("GLOO_SOCKET_IFNAME", None)
    torch.set_num_threads(1)
    worker = LearnerWorker()
    if rank == 0:
        port.put(worker.meet(2, LOOPBACK))
    worker.join(rank, 2, LOOPBACK, port.get() if rank else 0, 0.0)
    gaps = Gaps()
    gaps.add(torch.tensor([0.5, 1.0, 2.0][: rank + 1]))
    sent = [{"a": 0.1 + rank, "long": [rank] * (10 * rank)}, math.inf if rank else math.nan, gaps.plain()]
    found = gather_json(sent, torch.device("cpu"))
    answers.put((rank, listening(), repr(found), Gaps.of(found[1][2]).statistics().mean))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_of_a_node_meet_on_its_loopback_address_and_send_no_pickles() -> None:
    context = multiprocessing.get_context("spawn")
    port, answers = context.Queue(), context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, port, answers)) for rank in range(2)]
    for process in ranks:
        process.start()
    found = sorted(answers.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    for _, addresses, _, mean in found:
        assert addresses and all(ipaddress.ip_address(address).is_loopback for address in addresses), addresses
        assert mean == pytest.approx(0.75)
    assert found[0][2] == found[1][2], "every rank has the same"
    assert "'a': 0.1," in found[0][2] and "'a': 1.1," in found[0][2] and "nan" in found[0][2] and "inf" in found[0][2]


def test_nobody_sends_pickles_of_ours() -> None:
    import carerl

    package = Path(carerl.__file__).parent
    found = [str(path) for path in package.rglob("*.py") if re.search(r"dist\.\w+_object(_list)?\(", path.read_text())]
    assert found == []
