"""Lists the GPUs that a plan knows: memory, rates and links.

Rates are the data sheets' dense ones, without sparsity; how much of them a run reaches is an assumption of
:mod:`carerl.config.plan.seconds`. On an H200 790 of the 989 TFLOP/s and 4.3 of the 4.8 TB/s were measured, by large
products and copies. ``memory_gib`` is what PyTorch calls the total capacity of such a card, in the out-of-memory
messages that people have posted: the data sheet's gigabytes less what driver and error correction keep.

A card that is not here, of another maker too, is described by ``cluster.gpu_memory_gib``, ``gpu_tflops`` and
``gpu_bandwidth_tbps``.
"""

from __future__ import annotations

from dataclasses import dataclass

ASSUMED = "h100"  # where a run names none


@dataclass(frozen=True)
class Card:
    """One GPU."""

    memory_gib: float  # that PyTorch sees
    bf16_tflops: float  # matrix products with float32 sums; 0: the card has no bfloat16
    fp32_tflops: float  # outside of tensor cores: nothing here turns TF32 on
    bandwidth_tbps: float  # of its memory, TB/s
    link_gbps: float  # to another GPU of its node, GB/s in one direction: half of what NVLink or PCIe is sold as


# fmt: off
CARDS: dict[str, Card] = {
    # NVIDIA H100 Tensor Core GPU data sheet, 2024: SXM, NVL; H100 PCIe data sheet, 2022
    "h100":         Card(79.1, 989, 67, 3.35, 450),
    "h100_nvl":     Card(93.0, 835, 60, 3.9, 64),
    "h100_pcie":    Card(79.1, 756, 51, 2.0, 64),
    # NVIDIA H200 Tensor Core GPU data sheet, 2024, SXM. Measured: 790 TFLOP/s, 4.3 TB/s
    "h200":         Card(139.7, 989, 67, 4.8, 450),
    # NVIDIA GH200 Grace Hopper Superchip data sheet, 2023, 96 GB of HBM3; its link is the network between superchips
    "gh200":        Card(94.5, 989, 67, 4.0, 50),
    # NVIDIA DGX B200 and HGX B200 data sheets, 2024
    "b200":         Card(178.3, 2250, 75, 8.0, 900),
    # NVIDIA A100 Tensor Core GPU data sheet, 2021, SXM
    "a100_80":      Card(79.1, 312, 19.5, 2.039, 300),
    "a100_40":      Card(39.4, 312, 19.5, 1.555, 300),
    # NVIDIA L40S and L4 data sheets, 2023; A10 data sheet, 2021; A10G data sheet (AWS G5), 2021
    "l40s":         Card(44.4, 362, 91.6, 0.864, 32),
    "l4":           Card(22.0, 121, 30.3, 0.300, 32),
    "a10":          Card(22.0, 125, 31.2, 0.600, 32),
    "a10g":         Card(22.0, 70, 35.0, 0.600, 32),
    # NVIDIA RTX A6000 data sheet, 2021; RTX 6000 Ada data sheet, 2023; RTX PRO Blackwell architecture paper, 2025
    "rtx_a6000":    Card(47.4, 154.8, 38.7, 0.768, 32),
    "rtx_6000_ada": Card(47.4, 364.2, 91.1, 0.960, 32),
    "rtx_pro_6000": Card(94.9, 503.8, 125, 1.792, 64),
    # NVIDIA GA102, Ada and RTX Blackwell architecture papers, 2021, 2022 and 2025
    "rtx3090":      Card(23.6, 71, 35.6, 0.936, 32),
    "rtx4090":      Card(23.6, 165.2, 82.6, 1.008, 32),
    "rtx5090":      Card(31.3, 209.5, 104.8, 1.792, 64),
    # NVIDIA V100 data sheet, 2020, SXM2; T4 data sheet, 2019: for recipes in float32 only
    "v100_32":      Card(31.7, 0, 15.7, 0.900, 150),
    "v100_16":      Card(15.7, 0, 15.7, 0.900, 150),
    "t4":           Card(14.6, 0, 8.1, 0.320, 16),
}
# fmt: on
