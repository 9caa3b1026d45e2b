r"""Rates of a weight sync's stages on the host, GB/s, single-threaded: what ``carerl.config.plan.rates`` assumes.

    python -m tests.benchmarks.sync_stages [--mib 256] [--repeats 5]

``copy`` and ``digest`` are the stages of a weight sync through the memory of the host: into a bucket, and the sums
over what is in it (``carerl.backends.transfer``). ``pickle`` and ``unpickle`` are those of hidden states on their way
from the reference's actors, with Ray's pickler and without starting Ray. Each figure is the median over the repeats
of bytes over *processor* seconds, so that another program on the machine changes it less than it changes the clock.

On a core of an AMD EPYC beside a loaded one, torch 2.13, three times: copy 16.4 to 17.4, digest 8.1 to 8.7, pickle
1.10 to 1.13, unpickle 1.12 to 1.16: measure your own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import ray.cloudpickle as pickle
import torch

from carerl.backends.transfer.digest import words_sum

GB = 1e9


def rate(work: Callable[[], object], size: int, repeats: int) -> float:
    """GB of ``size`` bytes over the median of the processor seconds that ``work`` takes, after one run unmeasured."""
    work()
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return size / statistics.median(seconds) / GB


def stage_rates(mib: int, repeats: int) -> dict[str, float]:
    """GB/s of each stage on a bucket of ``mib`` MiB, in tensors of up to 64 MiB."""
    torch.set_num_threads(1)
    count = max(1, mib // 64)
    tensors = [torch.randn(mib * 2**20 // 4 // count) for _ in range(count)]
    size = sum(tensor.nbytes for tensor in tensors)
    bucket_N = torch.empty(size, dtype=torch.uint8)
    slots = bucket_N.split([tensor.nbytes for tensor in tensors])
    pickled = pickle.dumps(tensors)
    return {
        "copy": rate(
            lambda: [slot.view(t.dtype).copy_(t) for slot, t in zip(slots, tensors, strict=True)], size, repeats
        ),
        "digest": rate(lambda: [words_sum(tensor) for tensor in tensors], size, repeats),
        "pickle": rate(lambda: pickle.dumps(tensors), size, repeats),
        "unpickle": rate(lambda: pickle.loads(pickled), size, repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"a bucket of {options.mib} MiB, {options.repeats} repeats, one thread, torch {torch.__version__}\n")
    print("| stage | GB/s |\n|---|--:|")
    for stage, found in stage_rates(options.mib, options.repeats).items():
        print(f"| {stage} | {found:.2f} |", flush=True)


if __name__ == "__main__":
    main()
