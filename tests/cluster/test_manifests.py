"""What the manifests promise: safe by default, pinned, with room for the recipe that they name.

Not covered: whether a cluster runs them; nothing here has met a Kubernetes API server.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

import carerl
from carerl.config.load import load
from carerl.config.plan.memory import GIB, hidden_states_gib
from carerl.config.plan.plan import Plan, plan
from carerl.config.plan.processes import process_gib
from carerl.config.schema import RunConfig
from tests.cluster.manifests import (
    OVERLAYS,
    ROOT,
    Document,
    Pod,
    all_documents,
    all_pods,
    cluster_spec,
    documents,
    pods,
    quantity,
)

PODS = all_pods()
RAY_PODS = [pod for pod in PODS if pod.role in ("head", "worker")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
(RAY_VERSION,) = [m[1] for d in PROJECT["dependencies"] if (m := re.fullmatch(r"ray\[default\]==(.+)", d))]
SAVING_GB_PER_S = 0.2  # of a slow shared file system


def by_where(pod: Pod) -> str:
    return pod.where


def containers(pod: Pod) -> list[Document]:
    return [*pod.spec.get("initContainers", []), *pod.spec["containers"]]


# ---- safe by default ----------------------------------------------------------------------------


@pytest.mark.parametrize("pod", PODS, ids=by_where)
def test_no_pod_has_a_privilege(pod: Pod) -> None:
    spec = pod.spec
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["fsGroup"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
    allowed = ["IPC_LOCK"] if pins_memory(pod) else []
    for container in containers(pod):
        assert confined(container["securityContext"], allowed), container["name"]


def pins_memory(pod: Pod) -> bool:
    """Whether a pod's network reads and writes its memory by itself (RDMA), which pins it."""
    return pod.role == "worker" and pod.where.partition(":")[0].endswith("-rdma")


def confined(context: Document, allowed: Sequence[str] = ()) -> bool:
    return (
        context["allowPrivilegeEscalation"] is False
        and context["privileged"] is False
        and context["readOnlyRootFilesystem"] is True
        and context["capabilities"] == {"drop": ["ALL"], **({"add": list(allowed)} if allowed else {})}
    )


def test_rdma_takes_one_capability_and_one_device_and_costs_the_namespace_its_refusals() -> None:
    """Only where it is asked for; the head, whose NCCL nobody uses, has neither."""
    with_rdma = [overlay for overlay in OVERLAYS if overlay.endswith("-rdma")]
    assert with_rdma == ["care-dapo-7b-rdma", "eight-nodes-rdma"]
    for overlay in with_rdma:
        (pod,) = [pod for pod in PODS if pins_memory(pod) and pod.where.startswith(f"{overlay}:")]
        (resources,) = [container["resources"] for container in pod.spec["containers"]]
        assert [resources[kind]["rdma/rdma_shared_device_a"] for kind in ("requests", "limits")] == ["1", "1"]
        (labels,) = [d["metadata"]["labels"] for d in documents(overlay) if d["kind"] == "Namespace"]
        assert labels["pod-security.kubernetes.io/enforce"] == "privileged", "no other level allows IPC_LOCK"
        assert labels["pod-security.kubernetes.io/warn"] == "restricted"
    assert not [other.where for other in PODS if not pins_memory(other) and "rdma/" in str(other.spec)]


def test_the_autoscaler_is_as_confined_and_alone_has_the_api_token() -> None:
    (spec,) = [s for _, d in all_documents() if (s := cluster_spec(d)) and s["enableInTreeAutoscaling"]]
    assert confined(spec["autoscalerOptions"]["securityContext"])
    (token,) = [v["name"] for v in spec["headGroupSpec"]["template"]["spec"]["volumes"] if "projected" in v]
    assert token in [mount["name"] for mount in spec["autoscalerOptions"]["volumeMounts"]]
    (ray,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    assert token not in [mount["name"] for mount in ray["volumeMounts"]]


@pytest.mark.parametrize("pod", PODS, ids=by_where)
def test_every_container_says_what_it_asks_for_and_what_it_may_take(pod: Pod) -> None:
    for container in containers(pod):
        asked, may = container["resources"]["requests"], container["resources"]["limits"]
        for resource in ("cpu", "memory"):
            assert 0 < quantity(asked[resource]) <= quantity(may[resource]), (container["name"], resource)
        # Memory that is not reserved is memory in which the kernel kills a learner.
        if pod.role in ("head", "worker"):
            assert asked["memory"] == may["memory"]


@pytest.mark.parametrize("pod", [p for p in PODS if p.role != "submitter"], ids=by_where)
def test_every_container_that_stays_is_probed(pod: Pod) -> None:
    for container in pod.spec["containers"]:
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|NETRC", re.IGNORECASE)


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [s for part in value.values() for s in strings(part)]
    if isinstance(value, list):
        return [s for part in value for s in strings(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_a_manifest_and_all_come_as_files(overlay: str) -> None:
    for document in documents(overlay):
        assert document["kind"] != "Secret"
        # Long runs of letters and digits are what keys and tokens look like; the files' digests are comments.
        assert not [s for s in strings(document) if re.search(r"[A-Za-z0-9+/]{32,}", s)]
    for pod in pods(overlay):
        secret = [v["name"] for v in pod.spec["volumes"] if "secret" in v]
        for container in containers(pod):
            for variable in container.get("env", []):
                if SECRET_NAME.search(variable["name"]):
                    assert "valueFrom" not in variable
                    assert variable["value"] == "" or variable["value"].startswith("/secrets/")
            for mount in container["volumeMounts"]:
                assert mount["name"] not in secret or mount["readOnly"] is True


@pytest.mark.parametrize("pod", [p for p in PODS if p.role != "StatefulSet"], ids=by_where)
def test_ray_asks_for_its_token_and_reads_it_from_a_file(pod: Pod) -> None:
    (container,) = pod.spec["containers"]
    variables = {v["name"]: v["value"] for v in container["env"]}
    assert variables["RAY_AUTH_MODE"] == "token"
    # Set, or KubeRay sets it from the Secret; empty, or Ray takes it for the token.
    assert variables["RAY_AUTH_TOKEN"] == ""
    mount = next(m for m in container["volumeMounts"] if m["name"] == "ray-token")
    assert variables["RAY_AUTH_TOKEN_PATH"] == f"{mount['mountPath']}/auth_token"
    volume = next(v for v in pod.spec["volumes"] if v["name"] == "ray-token")
    for overlay, document in all_documents():
        if pod.where.startswith(f"{overlay}: {document['kind']} ") and (spec := cluster_spec(document)):
            assert spec["authOptions"] == {"mode": "token", "secretName": volume["secret"]["secretName"]}


def matches(selector: Document, labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_network_is_closed_but_for_what_is_named(overlay: str) -> None:
    policies = [d for d in documents(overlay) if d["kind"] == "NetworkPolicy"]
    closed = [p for p in policies if p["spec"]["podSelector"] == {} and not {"ingress", "egress"} & p["spec"].keys()]
    assert [sorted(p["spec"]["policyTypes"]) for p in closed] == [["Egress", "Ingress"]]
    for policy in policies:
        rules = policy["spec"].get("ingress", []) + policy["spec"].get("egress", [])
        for rule in rules:
            peers = rule.get("from", []) + rule.get("to", [])
            outside = not peers or any("podSelector" not in peer for peer in peers)
            assert not outside or rule["ports"], policy["metadata"]["name"]
        # Nobody outside the namespace comes in but by a namespace that is named.
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"] and all("ipBlock" not in peer for peer in rule["from"])
    for pod in pods(overlay):
        allowed = {p["metadata"]["name"] for p in policies if matches(p["spec"]["podSelector"], pod.labels)}
        if pod.role != "StatefulSet":
            assert {"carerl-within", "carerl-dns"} <= allowed
        assert ("carerl-operator" in allowed) == (pod.role == "head")


def test_no_service_is_reachable_from_outside() -> None:
    for _, document in all_documents():
        if document["kind"] == "Service":
            assert document["spec"]["type"] == "ClusterIP"
        if spec := cluster_spec(document):
            assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_the_namespace_refuses_other_pods_by_itself() -> None:
    for overlay in OVERLAYS:
        (namespace,) = [d for d in documents(overlay) if d["kind"] == "Namespace"]
        level = "privileged" if overlay.endswith("-rdma") else "restricted"
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == level
        others = {d["metadata"]["namespace"] for d in documents(overlay) if d["kind"] != "Namespace"}
        assert others == {namespace["metadata"]["name"]}


# ---- versions -----------------------------------------------------------------------------------


def test_versions_agree_with_the_project() -> None:
    for _, document in all_documents():
        if spec := cluster_spec(document):
            assert spec["rayVersion"] == RAY_VERSION


@pytest.mark.parametrize("pod", PODS, ids=by_where)
def test_images_are_pinned_and_are_the_projects_own(pod: Pod) -> None:
    for container in containers(pod):
        name, _, tag = container["image"].partition(":")
        assert re.match(r"\d+\.\d+\.\d+", tag), container["image"]
        if pod.role != "StatefulSet":
            device = "cpu" if "cpu-smoke" in pod.where else "gpu"
            assert (name, tag) == ("carerl", f"{carerl.__version__}-ray{RAY_VERSION}-{device}")


# ---- the recipe and its room --------------------------------------------------------------------


@cache
def named_run(overlay: str) -> tuple[RunConfig, Plan]:
    """The run that an overlay is for, resolved and planned: of a job its entrypoint's, of a cluster the recipe that it
    is annotated with."""
    (document,) = [d for d in documents(overlay) if cluster_spec(d)]
    if document["kind"] == "RayJob":
        python, flag, module, *words = document["spec"]["entrypoint"].split()
        assert (python, flag, module) == ("python", "-m", "carerl.run")
        (run_dir,) = [word for word in words if word.startswith("run_dir=")]
        assert run_dir.startswith("run_dir=/runs/"), "a retry finds the run only in a place that has a name"
    else:
        words = [f"recipe={document['metadata']['annotations']['carerl/recipe']}"]
    config = load([*words, "dry_run=true"])
    return config, plan(config)


def test_every_recipe_that_is_wanted_has_its_manifest() -> None:
    runs = {overlay: named_run(overlay)[0] for overlay in OVERLAYS}
    assert {overlay: (run.recipe, run.scale) for overlay, run in runs.items()} == {
        "care-dapo-7b": ("care_dapo_7b", ""),
        "care-dapo-7b-rdma": ("care_dapo_7b", ""),
        "cpu-smoke": ("care_grpo_tiny", ""),
        "eight-nodes": ("care_dapo_7b", "64_gpus"),
        "eight-nodes-rdma": ("care_dapo_7b", "64_gpus"),
        "one-gpu": ("care_grpo_1_5b", "1_gpu_24gb"),
        "one-node": ("care_dapo_3b", ""),
        "ray-cluster": ("care_dapo_7b", ""),
    }
    # Of one run each, but for the pair with and without RDMA: two jobs that are there at once do not share a directory.
    jobs = {overlay: run.run_dir for overlay, run in runs.items() if run.run_dir and not overlay.endswith("-rdma")}
    assert len(set(jobs.values())) == len(jobs)


def test_the_readmes_table_of_overlays_is_what_they_run() -> None:
    readme = (ROOT / "cluster" / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"(?m)^\| `([\w-]+)` \| [^|\n]+ \| `([^`]+)` \| `([^`]+)` \|$", readme)
    assert len(table) == 4
    for overlay, words, script in table:
        run = named_run(overlay)[0]
        assert words == " ".join(filter(None, [run.recipe, run.scale and f"scale={run.scale}"]))
        assert f"{script.rpartition('/')[2]} recipe={words}\n" in (ROOT / "cluster" / script).read_text()


def test_sizes_are_those_that_they_are_called_after() -> None:
    sizes = {overlay: (worker(overlay).replicas, gpus(worker(overlay))) for overlay in OVERLAYS}
    expected = {"one-gpu": (1, 1), "one-node": (1, 8), "eight-nodes": (8, 8), "eight-nodes-rdma": (8, 8)}
    assert {overlay: sizes[overlay] for overlay in expected} == expected


def worker(overlay: str) -> Pod:
    (found,) = [pod for pod in pods(overlay) if pod.role == "worker"]
    return found


def gpus(pod: Pod) -> float:
    return quantity(pod.spec["containers"][0]["resources"]["limits"].get("nvidia.com/gpu", 0))


def ray_cpus(pod: Pod) -> float:
    """What Ray counts: num-cpus where it is given, else the container's limit, as KubeRay passes it on."""
    assert pod.start is not None
    return float(pod.start.get("num-cpus", quantity(pod.spec["containers"][0]["resources"]["limits"]["cpu"])))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_plan_fits_the_gpus_and_cpus_that_the_manifest_grants(overlay: str) -> None:
    _, planned = named_run(overlay)
    pod = worker(overlay)
    assert sum(a.count * a.gpus_each for a in planned.actors) <= pod.replicas * gpus(pod)
    assert len([node for node in planned.nodes if node.gpus]) <= pod.replicas
    assert all(node.gpus <= gpus(pod) for node in planned.nodes)
    assert sum(a.count * a.cpus_each for a in planned.actors) <= pod.replicas * ray_cpus(pod)
    # Ray may lay the actors otherwise than the plan: the worst node is full of those that ask for most CPUs a GPU (two
    # that share one ask together), and has all that need no GPU.
    dearest = max((a.cpus_each / a.gpus_each for a in planned.actors if a.gpus_each), default=0.0)
    free = sum(a.count * a.cpus_each for a in planned.actors if not a.gpus_each)
    assert gpus(pod) * dearest + free <= ray_cpus(pod)
    head = next(p for p in pods(overlay) if p.role == "head")
    assert ray_cpus(head) == 0, "an actor beside GCS and driver takes their memory"


def mounted_memory(pod: Pod) -> float:
    """Bytes that /dev/shm may hold."""
    (name,) = [m["name"] for m in pod.spec["containers"][0]["volumeMounts"] if m["mountPath"] == "/dev/shm"]
    (volume,) = [v["emptyDir"] for v in pod.spec["volumes"] if v["name"] == name]
    assert volume["medium"] == "Memory"
    return quantity(volume["sizeLimit"])


@pytest.mark.parametrize("pod", RAY_PODS, ids=by_where)
def test_the_object_store_lies_in_shared_memory_that_holds_it(pod: Pod) -> None:
    assert pod.start is not None
    store = int(pod.start["object-store-memory"])
    assert store < mounted_memory(pod) < quantity(pod.spec["containers"][0]["resources"]["limits"]["memory"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_plan_fits_the_memory_that_the_manifest_grants(overlay: str) -> None:
    config, planned = named_run(overlay)
    pod = worker(overlay)
    assert pod.start is not None
    store = int(pod.start["object-store-memory"])
    bytes_each = {"float32": 4, "bfloat16": 2}[config.model.dtype]
    # A sync puts all weights in once, and a second version may come before the first has gone.
    weights = 2 * bytes_each * planned.parameters.total
    hidden = hidden_states_gib(config, planned.shape) * GIB if config.regularizer.estimator == "full" else 0.0
    assert weights + hidden <= store

    # Learners read the weights in float32 on the way to their GPU, the others in the model's own dtype; on CPUs what
    # the plan says of each actor stays there.
    def host(role: str) -> float:
        process = process_gib(config, role, any(a.gpus_each for a in planned.actors if a.role == role))
        if role == "grading":
            return process + config.grading.processes * config.grading.memory_mib / 1024
        if any(a.gpus_each for a in planned.actors):
            return process + (4 if role == "learner" else bytes_each) * planned.parameters.total / GIB
        return process + sum(planned.memory[role].values())

    # Some overlays have one node, others more: the worst holds as many of the dearest as its GPUs have room for.
    dear = max((host(a.role) / a.gpus_each for a in planned.actors if a.gpus_each), default=0.0)
    rest = sum(a.count * host(a.role) for a in planned.actors if not a.gpus_each)
    wanted = store / GIB + gpus(pod) * dear + rest
    granted = quantity(pod.spec["containers"][0]["resources"]["limits"]["memory"]) / GIB
    assert wanted <= granted
    assert all(node.peak <= granted for node in planned.host)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_stopped_run_has_the_time_to_save(overlay: str) -> None:
    _, planned = named_run(overlay)
    # The step under way, an evaluation after it at most as long, and weights with both moments and an export written.
    saving = 14 * planned.parameters.total / (SAVING_GB_PER_S * 1e9)
    seconds = saving + 2 * (planned.compute.step if planned.compute else 1.0)
    for pod in pods(overlay):
        if pod.role in ("head", "worker"):
            (container,) = pod.spec["containers"]
            wait = int(next(v["value"] for v in container["env"] if v["name"] == "RAY_JOB_STOP_WAIT_TIME_S"))
            hook = float(container["lifecycle"]["preStop"]["exec"]["command"][-1])
            # Ray's own deadline first, then the hook's, then Kubernetes', each with a margin.
            assert seconds < wait < hook < pod.spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("overlay", [o for o in OVERLAYS if o != "ray-cluster"])
def test_a_job_ends_by_itself_whatever_happens(overlay: str) -> None:
    _, planned = named_run(overlay)
    (job,) = [d["spec"] for d in documents(overlay) if d["kind"] == "RayJob"]
    hours = planned.compute.gpu_hours / planned.compute.gpus if planned.compute else 0.25
    assert 3 * hours * 3600 <= job["activeDeadlineSeconds"] <= 7 * 86400
    assert 0 < job["preRunningDeadlineSeconds"] < job["activeDeadlineSeconds"]
    assert 1 <= job["backoffLimit"] <= 5
    assert job["shutdownAfterJobFinishes"] is True and job["ttlSecondsAfterFinished"] > 0
    assert job["suspend"] is False
    (workers,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"], "a plan counts on all at once"


def test_overlays_can_be_applied_one_after_the_other() -> None:
    """A claim's access modes cannot be changed, nor can it shrink: claims of one name are the same in every overlay."""
    claims: dict[str, list[object]] = {}
    for overlay in OVERLAYS:
        for document in documents(overlay):
            if document["kind"] == "PersistentVolumeClaim":
                claims.setdefault(document["metadata"]["name"], []).append(document["spec"])
    assert {"carerl-runs", "carerl-smoke-runs"} <= claims.keys()
    assert all(spec == specs[0] for specs in claims.values() for spec in specs)


def test_the_way_to_the_kubernetes_api_is_open_for_the_autoscalers_head_alone() -> None:
    policies = {d["metadata"]["name"]: d["spec"] for d in documents("ray-cluster") if d["kind"] == "NetworkPolicy"}
    policy = policies["carerl-autoscaler"]
    assert policy["podSelector"]["matchLabels"]["ray.io/cluster"] == "carerl"
    assert [d["metadata"]["name"] for d in documents("ray-cluster") if d["kind"] == "RayCluster"] == ["carerl"]


@pytest.mark.parametrize("pod", RAY_PODS, ids=by_where)
def test_runs_and_models_lie_on_claims_that_outlive_the_pod(pod: Pod) -> None:
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"]
        for v in pod.spec["volumes"]
        if len(v) == 2 and "persistentVolumeClaim" in v
    }
    mounts = {m["mountPath"]: claims.get(m["name"]) for m in pod.spec["containers"][0]["volumeMounts"]}
    smoke = "smoke-" if pod.where.startswith("cpu-smoke") else ""
    assert mounts["/runs"] == f"carerl-{smoke}runs" and mounts["/cache"] == f"carerl-{smoke}cache"
    writable = {path for path in mounts if not path.startswith("/secrets/")}
    for variable in pod.spec["containers"][0]["env"]:
        value = variable.get("value", "")
        if value.startswith("/") and not value.startswith("/secrets/"):
            assert any(value.startswith(f"{path}/") or value == path for path in writable), variable


def test_gpu_workers_are_let_onto_gpu_nodes_and_kept_together() -> None:
    for pod in (p for p in PODS if p.role == "worker" and gpus(p)):
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod.spec["tolerations"]
        assert pod.spec["nodeSelector"]
        if pod.replicas > 1:
            terms = pod.spec["affinity"]["podAffinity"]
            assert "topology.kubernetes.io/zone" in strings(terms)
