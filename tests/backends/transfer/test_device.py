"""Transfers from GPU to GPU: what the adapter asks of vLLM 0.25.1 and 0.32, and what the engines are asked for.

In place of vLLM's modules stand stubs that bind arguments as vLLM's own signatures do (``vllm_signatures.json``, read
from both wheels) and call back as vLLM does. Not covered: NCCL and CUDA IPC themselves, which need GPUs.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, field, make_dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from torch import Tensor

import carerl.backends.transfer
from carerl.actors.workers.engine_client import EngineClient
from carerl.backends.transfer import TRANSFERS
from carerl.backends.transfer.base import Place
from carerl.backends.transfer.digest import Tally
from tests.actors.local import Local
from tests.backends.transfer.sending import Given
from tests.backends.transfer.vllm_signatures import read, recorded, signature

VERSIONS = recorded()
WEIGHTS = {f"layers.{k}.w": torch.full((3, 5), float(k), dtype=torch.bfloat16) for k in range(4)}
cases = pytest.mark.parametrize(
    ("version", "kind"), [(version, kind) for version in VERSIONS for kind in ("nccl", "ipc")]
)


class Walked(Given):
    """A source that counts how often it was walked to its end."""

    walks = 0

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        yield from super().__iter__()
        self.walks += 1


class Stubs:
    """vLLM of one version: its functions and classes, bound by its own signatures."""

    def __init__(self, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found = VERSIONS[version]
        modules = {name: ModuleType(f"vllm.distributed.weight_transfer.{name}") for name in self._names()}
        package = ModuleType("vllm.distributed.weight_transfer")
        for name, module in modules.items():
            setattr(package, name, module)
            monkeypatch.setitem(sys.modules, module.__name__, module)
        for name in ("vllm", "vllm.distributed"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, package.__name__, package)
        if "WeightTransferTrainerFactory.trainer_init" in self.found:
            trainer_init = staticmethod(self._trainer_init)
            modules["factory"].WeightTransferTrainerFactory = type("F", (), {"trainer_init": trainer_init})  # type: ignore[attr-defined]
            for kind in ("NCCL", "IPC"):
                name = f"{kind}TrainerInitInfo"
                setattr(modules[f"{kind.lower()}_engine"], name, self.data(name, "TrainerInitInfo"))
        else:
            for kind, send in (("NCCL", self._nccl), ("IPC", self._ipc)):
                methods = {"trainer_send_weights": staticmethod(send), "trainer_init": staticmethod(self._join)}
                name = f"{kind}WeightTransferEngine"
                setattr(modules[f"{kind.lower()}_engine"], name, type(name, (), methods))

    @staticmethod
    def _names() -> tuple[str, ...]:
        return ("factory", "nccl_engine", "ipc_engine")

    def data(self, *names: str) -> Any:
        """A dataclass with the fields of vLLM's and of its base."""
        fields = [(one, kind) for name in reversed(names) for one, kind in self.found[name]]
        made = [(one, Any, field(default=None, kw_only=True)) for one, kind in fields if kind == "default"]
        return make_dataclass(
            names[0], [(one, Any, field(kw_only=True)) for one, kind in fields if kind != "default"] + made
        )

    def bound(self, name: str, *arguments: Any, **named: Any) -> dict[str, Any]:
        return dict(signature(self.found[name]).bind(*arguments, **named).arguments)

    # 0.32: a sender that drives the calls (nccl_engine.py, ipc_engine.py: trainer_init, send_weights)
    def _trainer_init(self, *arguments: Any, **named: Any) -> Any:
        given = self.bound("WeightTransferTrainerFactory.trainer_init", *arguments, **named)
        info, client, source = given["init_info"], given["client"], given["source"]
        nccl, sends = hasattr(info, "master_port"), info.rank == 0
        if sends and nccl:
            meeting = {key: value for key, value in asdict(info).items() if value is not None and key != "rank"}
            client.init_weight_transfer_engine({**meeting, "rank_offset": 1})
        elif sends:
            client.init_weight_transfer_engine({"packed": info.packed})

        def send_weights() -> None:
            if not sends:
                return _walk(source)
            client.start_weight_update()
            if nccl:
                client.update_weights(_told(source.metadata()))
                _walk(source)
            else:
                for part in _parts(source, info.packed_buffer_size_bytes):
                    client.update_weights({**part, "ipc_handles": {}, "tensor_sizes": []})
            client.finish_weight_update()

        return SimpleNamespace(send_weights=send_weights)

    # 0.25: functions that send data alone
    def _join(self, *arguments: Any) -> str:
        info = self.bound("trainer_init", *arguments)["init_info"]
        assert {"master_address", "master_port", "world_size"} <= set(info)
        return "the group"

    def _nccl(self, *arguments: Any) -> None:
        given = self.bound("NCCLWeightTransferEngine.trainer_send_weights", *arguments)
        assert self.data("NCCLTrainerSendWeightsArgs")(**given["trainer_args"]).group == "the group"
        _walk(given["iterator"])

    def _ipc(self, *arguments: Any) -> None:
        given = self.bound("IPCWeightTransferEngine.trainer_send_weights", *arguments)
        args, update = (
            self.data("IPCTrainerSendWeightsArgs")(**given["trainer_args"]),
            self.data("IPCWeightTransferUpdateInfo"),
        )
        for part in _parts(given["iterator"], args.packed_buffer_size_bytes):
            if self.rank == 0:
                args.send_mode(update(**part, ipc_handles={}, tensor_sizes=[], packed=args.packed))

    rank = 0


def _walk(pairs: Any) -> None:
    for _ in pairs:
        pass


def _told(metadata: Any) -> dict[str, Any]:
    return {
        "names": [one.name for one in metadata],
        "dtype_names": [str(one.dtype).split(".")[-1] for one in metadata],
        "shapes": [list(one.shape) for one in metadata],
    }


def _parts(pairs: Any, most: int) -> Iterator[dict[str, Any]]:
    """Two tensors at a time, each of at most ``most`` bytes, as vLLM's buffer for handles takes them."""
    pairs = list(pairs)
    for name, tensor in pairs:
        if tensor.nbytes > most:
            raise ValueError(f"Tensor '{name}' has size {tensor.nbytes} bytes, which exceeds buffer_size_bytes={most}.")
    for k in range(0, len(pairs), 2):
        yield {
            "names": [name for name, _ in pairs[k : k + 2]],
            "dtype_names": [str(tensor.dtype).split(".")[-1] for _, tensor in pairs[k : k + 2]],
            "shapes": [list(tensor.shape) for _, tensor in pairs[k : k + 2]],
        }


class Worker:
    """An engine's actor, whose vLLM worker takes what its version takes."""

    def __init__(self, stubs: Stubs, kind: str) -> None:
        self.stubs, self.prefix = stubs, kind.upper() + "WeightTransfer"
        self.calls: list[str] = []
        self.init: dict[str, Any] = {}
        self.names: list[str] = []

    def init_weight_transfer_engine(self, info: dict[str, Any]) -> None:
        self.stubs.bound("Worker.init_weight_transfer_engine", info)
        self.stubs.data(f"{self.prefix}InitInfo")(**info)  # as vLLM's parse_init_info
        self.init = info
        self.calls.append("init")

    def start_weight_update(self) -> None:
        self.calls.append("start")

    def update_weights(self, info: dict[str, Any]) -> None:
        self.stubs.bound("Worker.update_weights", info)
        self.stubs.data(f"{self.prefix}UpdateInfo")(**info)
        self.names += info["names"]
        self.calls.append("update")

    def finish_weight_update(self) -> None:
        self.calls.append("finish")


Opened = tuple[Any, list[Worker], Walked]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Opened]:
    """A sender of this version and kind on a rank, to two engines of two tensor-parallel workers each."""
    monkeypatch.setattr(ray, "get", lambda values, timeout=None: values)

    def made(version: str, kind: str, rank: int, weights: dict[str, Tensor] = WEIGHTS) -> Opened:
        stubs = Stubs(version, monkeypatch)
        stubs.rank = rank
        workers, source = [Worker(stubs, kind) for _ in range(2)], Walked(weights)
        client = EngineClient([Local(worker) for worker in workers], 4, 60.0)
        place = Place(rank, "127.0.0.1", lambda array: array)
        return TRANSFERS[kind](kind, source, client, place, 1), workers, source

    return made


@cases
def test_each_engine_gets_the_four_calls_in_order_for_every_sync(
    version: str, kind: str, opened: Callable[[str, str, int], Opened]
) -> None:
    sender, workers, source = opened(version, kind, 0)
    assert [worker.calls for worker in workers] == [["init"], ["init"]]
    tally = Tally()
    _walk(tally.passing(Given(WEIGHTS)))
    for _ in range(2):
        sent = sender.send()
        assert (sent.kind, sent.bytes, sent.digest) == (kind, 4 * 15 * 2, tally.received.digest)
    parts = ["update"] * (1 if kind == "nccl" else 2)
    assert [worker.calls for worker in workers] == [["init", *["start", *parts, "finish"] * 2]] * 2
    assert [worker.names for worker in workers] == [list(WEIGHTS) * 2] * 2
    assert source.walks == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_buffer_for_handles_holds_the_largest_tensor(version: str, opened: Callable[..., Opened]) -> None:
    """An embedding is often larger than a bucket, which is 1 MiB here."""
    large = {"embedding": torch.ones(600_000, dtype=torch.bfloat16), **WEIGHTS}
    sender, workers, _ = opened(version, "ipc", 0, large)
    assert sender.send().bytes == 1_200_000 + 4 * 30
    assert [worker.names for worker in workers] == [list(large)] * 2


@pytest.mark.parametrize("version", VERSIONS)
def test_every_worker_has_a_rank_of_its_own_after_the_senders(
    version: str, opened: Callable[[str, str, int], Opened]
) -> None:
    _, (one, other), _ = opened(version, "nccl", 0)
    assert one.init["world_size"] == other.init["world_size"] == 5
    assert (one.init["rank_offset"], other.init["rank_offset"]) == (1, 3), "two workers an engine"
    assert one.init["master_address"] == "127.0.0.1" and one.init["master_port"] == other.init["master_port"] > 0


@cases
def test_another_rank_takes_part_in_gathering_and_calls_nobody(
    version: str, kind: str, opened: Callable[[str, str, int], Opened]
) -> None:
    sender, workers, source = opened(version, kind, 1)
    sent = sender.send()
    assert (sent.bytes, sent.digest, source.walks) == (0, 0, 1)
    assert [worker.calls for worker in workers] == [[], []]


# ---- the records ----------------------------------------------------------------------------------


def test_the_record_is_what_the_installed_version_has() -> None:
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        pytest.skip("vLLM is not installed")
    place = Path(next(iter(found.submodule_search_locations)))
    assert read(place) == VERSIONS["0.32.0"]


@pytest.mark.parametrize("version", VERSIONS)
def test_our_engine_has_every_method_that_vllm_asks_for(version: str) -> None:
    """Python refuses to make an object of a class that lacks one."""
    source = (Path(carerl.backends.transfer.__file__).parent / "vllm_worker.py").read_text()
    (engine,) = [one for one in ast.parse(source).body if isinstance(one, ast.ClassDef) and one.name == "HostEngine"]
    own = {one.name for one in engine.body if isinstance(one, ast.FunctionDef)}
    assert set(VERSIONS[version]["WeightTransferEngine"]) <= own
    (call,) = [
        one.value for one in ast.parse(source).body if isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)
    ]
    assert ast.unparse(call) == "WeightTransferEngineFactory.register_engine(HOST, HostEngine)", "in every process"
    signature(VERSIONS[version]["WeightTransferEngineFactory.register_engine"]).bind("a name", object)


@pytest.mark.engine
@pytest.mark.parametrize("version", VERSIONS)
def test_adapters_take_the_place_of_those_before_by_calls_that_each_version_has(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those before go first: vLLM keeps what it has under a number."""
    from carerl.backends.transfer import vllm_worker

    called: list[str] = []

    def bound(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            called.append(name.rpartition(".")[2])
            return signature(VERSIONS[version][name]).bind(*arguments, **named).arguments

        return call

    made = SimpleNamespace(from_lora_tensors=bound("LoRAModel.from_lora_tensors"))
    monkeypatch.setattr(vllm_worker, "LoRAModel", made)
    monkeypatch.setattr(vllm_worker, "PEFTHelper", bound("PEFTHelper"))
    held = SimpleNamespace(
        remove_adapter=bound("LoRAModelManager.remove_adapter"),
        add_adapter=bound("LRUCacheLoRAModelManager.add_adapter"),
        activate_adapter=bound("LRUCacheLoRAModelManager.activate_adapter"),
    )
    manager = SimpleNamespace(
        _adapter_manager=held, device=torch.device("cpu"), lora_config=SimpleNamespace(lora_dtype=torch.float32)
    )
    tensors = {f"q_proj.lora_{half}.weight": torch.ones(2, 2) for half in "AB"}
    vllm_worker.put_adapters(manager, tensors, 4.0)
    assert called == ["PEFTHelper", "from_lora_tensors", "remove_adapter", "add_adapter", "activate_adapter"]
    signature(VERSIONS[version]["LLMEngine.add_request"]).bind("0", [], object(), lora_request=object())
