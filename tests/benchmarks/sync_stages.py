r"""Rates of a weight sync's stages on the host, GB/s, single-threaded: what ``carerl.config.plan.seconds`` assumes.

    python -m tests.benchmarks.sync_stages [--mib 256] [--repeats 5]

The stages are those of ``LearnerWorker.publish`` and ``EngineWorker.sync``: float32 to bfloat16, ``tobytes`` and
CRC-32 of a checksum, and pickling and unpickling of a bucket, as Ray does with tensors on the CPU, with Ray's pickler
and without starting Ray. Each figure is the median over the repeats of bytes over *processor* seconds, so that another
program on the machine changes it less than it changes the clock. Bytes are those of the tensors in bfloat16; for the
cast, those of the float32 that is read.

On a core of an AMD EPYC, torch 2.13, three times: cast 3.98 to 4.07, tobytes 2.55, crc32 6.90, pickle 1.21 to 1.27,
unpickle 1.24 to 1.28. A slower core gave half of it (2.0, 1.1, 3.2, .58 and .79): measure your own.
"""

from __future__ import annotations

import argparse
import statistics
import time
import zlib
from collections.abc import Callable

import ray.cloudpickle as pickle
import torch

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
    """GB/s of each stage on a bucket of ``mib`` MiB in bfloat16, in tensors of up to 64 MiB."""
    torch.set_num_threads(1)
    count = max(1, mib // 64)
    wide = [torch.randn(mib * 2**20 // 2 // count) for _ in range(count)]
    bucket = [(f"layer.{k}", tensor.to(torch.bfloat16)) for k, tensor in enumerate(wide)]
    views = [tensor.view(torch.uint8).numpy() for _, tensor in bucket]
    size = sum(view.nbytes for view in views)
    pickled = pickle.dumps(bucket)
    copies = [view.tobytes() for view in views]
    return {
        "cast": rate(lambda: [tensor.to(torch.bfloat16) for tensor in wide], 2 * size, repeats),
        "tobytes": rate(lambda: [view.tobytes() for view in views], size, repeats),
        "crc32": rate(lambda: [zlib.crc32(copy) for copy in copies], size, repeats),
        "pickle": rate(lambda: pickle.dumps(bucket), size, repeats),
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
