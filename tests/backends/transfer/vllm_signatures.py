"""What vLLM's weight transfer takes, read from its files: names, parameters and fields, by Python's parser.

``vllm_signatures.json`` holds what was read from the wheels of the versions that are supported. A new one is added by

    python -m tests.backends.transfer.vllm_signatures DIRECTORY_OF_VLLM
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("vllm_signatures.json")
READ = {
    "distributed/weight_transfer/base.py": ["WeightTransferEngine", "TrainerInitInfo"],
    "distributed/weight_transfer/factory.py": ["WeightTransferEngineFactory", "WeightTransferTrainerFactory"],
    "distributed/weight_transfer/nccl_common.py": ["NCCLWeightTransferInitInfo", "trainer_init"],
    "distributed/weight_transfer/nccl_engine.py": [
        "NCCLWeightTransferEngine", "NCCLWeightTransferUpdateInfo", "NCCLTrainerSendWeightsArgs", "NCCLTrainerInitInfo",
    ],
    "distributed/weight_transfer/ipc_engine.py": [
        "IPCWeightTransferEngine", "IPCWeightTransferInitInfo", "IPCWeightTransferUpdateInfo",
        "IPCTrainerSendWeightsArgs", "IPCTrainerInitInfo",
    ],
    "lora/lora_model.py": ["LoRAModel"],
    "lora/model_manager.py": ["LRUCacheLoRAModelManager", "LoRAModelManager"],
    "lora/peft_helper.py": ["PEFTHelper"],
    "model_executor/model_loader/reload/layerwise.py": [
        "initialize_layerwise_reload", "finalize_layerwise_reload", "get_layerwise_info",
    ],
    "v1/engine/llm_engine.py": ["LLMEngine"],
    "v1/worker/gpu_worker.py": ["Worker"],
}  # fmt: skip
METHODS = {  # of each class, those that are called or must be written
    "LLMEngine": ["add_request"], "LoRAModel": ["from_lora_tensors"], "LoRAModelManager": ["remove_adapter"],
    "LRUCacheLoRAModelManager": ["add_adapter", "activate_adapter"],
    "WeightTransferEngineFactory": ["register_engine"], "WeightTransferTrainerFactory": ["trainer_init"],
    "NCCLWeightTransferEngine": ["trainer_send_weights"], "IPCWeightTransferEngine": ["trainer_send_weights"],
    "Worker": [
        "init_weight_transfer_engine", "start_weight_update", "update_weights", "finish_weight_update",
    ],
}  # fmt: skip


def read(vllm: Path) -> dict[str, Any]:
    """Returns {name: parameters} of functions, methods and dataclasses, and the abstract methods of the engine."""
    found: dict[str, Any] = {}
    for file, names in READ.items():
        nodes = {node.name: node for node in ast.parse((vllm / file).read_text()).body if hasattr(node, "name")}
        for name in names:
            node = nodes.get(name)
            if isinstance(node, ast.FunctionDef):
                found[name] = _parameters(node)
            elif isinstance(node, ast.ClassDef):
                found |= _of_class(node)
    return found


def _of_class(node: ast.ClassDef) -> dict[str, Any]:
    methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
    found = {
        f"{node.name}.{name}": _parameters(methods[name]) for name in METHODS.get(node.name, ()) if name in methods
    }
    if node.name == "WeightTransferEngine":
        found[node.name] = sorted(
            name for name, one in methods.items() if any(ast.unparse(d) == "abstractmethod" for d in one.decorator_list)
        )
    if any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list):
        found[node.name] = [
            [line.target.id, "default" if line.value and "kw_only" not in ast.unparse(line.value) else "required"]
            for line in node.body
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
            if "ClassVar" not in ast.unparse(line.annotation)
        ]
    return found


def _parameters(node: ast.FunctionDef) -> list[list[str]]:
    """Returns name and kind of each parameter but the object itself."""
    plain = [*node.args.posonlyargs, *node.args.args]
    defaults = [None] * (len(plain) - len(node.args.defaults)) + list(node.args.defaults)
    found = [[one.arg, "default" if default else "required"] for one, default in zip(plain, defaults, strict=True)]
    found += [
        [one.arg, "named default" if default else "named"]
        for one, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    ]
    found += [["*", "any"]] if node.args.vararg else []
    return [one for one in found if one[0] not in ("self", "cls")]


def signature(parameters: list[list[str]]) -> inspect.Signature:
    """Returns a signature that binds what vLLM's own would."""
    made = []
    for name, kind in sorted(parameters, key=lambda one: ("named" in one[1], "default" in one[1])):
        place = inspect.Parameter.KEYWORD_ONLY if "named" in kind else inspect.Parameter.POSITIONAL_OR_KEYWORD
        default = None if "default" in kind else inspect.Parameter.empty
        made.append(inspect.Parameter(name, place, default=default))
    return inspect.Signature(made)


def recorded() -> dict[str, dict[str, Any]]:
    """Returns what was read, by version."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
    return found


if __name__ == "__main__":
    place = Path(sys.argv[1])
    (version,) = [p.name.removesuffix(".dist-info").split("-")[1] for p in place.parent.glob("vllm*.dist-info")] or [
        "unknown"
    ]
    kept = (recorded() if FILE.exists() else {}) | {version: read(place)}
    lines = [
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(of.items()))
        + "\n  }"
        for name, of in sorted(kept.items())
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
