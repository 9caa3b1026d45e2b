"""Settings of the machines that a run uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from carerl.config.schema.cards import CARDS
from carerl.settings import Settings, above, at_least, one_of


@dataclass
class ClusterConfig(Settings):
    address: str = ""  # of a running Ray cluster; empty: the one of RAY_ADDRESS, else a local one
    # that nodes of a cluster with an autoscaler may take to come; 0: what is there decides
    wait_seconds: Annotated[float, at_least(0)] = 0.0
    # that an actor at work may give no sign of life; after a stop a quarter of it
    answer_seconds: Annotated[float, at_least(1)] = 60.0
    # that one may be alive without progress, four times that to load or save
    progress_minutes: Annotated[float, above(0)] = 30.0
    # disaggregated: engines and learner side by side | colocated: each rank shares its GPU with an engine, in turn
    placement: Annotated[str, one_of(("disaggregated", "colocated"))] = "disaggregated"
    gpus_per_node: Annotated[int, at_least(0)] = 0
    # the card that a plan counts with, see carerl/config/schema/cards.py; empty: h100 is assumed
    gpu: Annotated[str, one_of(("", *CARDS))] = ""
    gpu_memory_gib: Annotated[float, at_least(0)] = 0.0  # of one GPU, in place of the card's own; 0: the card's
    # dense bfloat16 matmul rate in TFLOP/s, in place of the card's own; 0: the card's
    gpu_tflops: Annotated[float, at_least(0)] = 0.0
    # memory bandwidth in TB/s, in place of the card's own; 0: the card's
    gpu_bandwidth_tbps: Annotated[float, at_least(0)] = 0.0
