"""A plan as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from carerl.config.plan.plan import Plan


def render(plan: Plan) -> str:
    """Renders the whole plan as lines of text: title, resolved recipe, then what follows from it."""
    misfits = [str(o) for o in plan.overflows if not o.fits]
    tight = [str(o) for o in plan.overflows if o.fits]
    sections = [
        ("DOES NOT FIT", misfits),
        ("Resolved recipe", plan.recipe.rstrip().splitlines()),
        ("Model", _model(plan)),
        ("GPU", [plan.card] if plan.card else []),
        ("Actors", _actors(plan) if plan.actors else []),
        ("Batch", _batch(plan) if plan.actors else []),
        ("Prompts", list(plan.prompts)),
        ("Memory of one actor, GiB (estimates)", _memory(plan) if plan.actors else []),
        ("Memory of a GPU that an engine and a rank share, GiB (estimates)", _shared(plan)),
        ("Main memory of each actor at its peak, GiB (estimates)", _resident(plan)),
        ("Main memory of each node, GiB (estimates)", _host(plan)),
        ("Weights on the way and on disk", _weights(plan) if plan.actors else []),
        ("GPU-hours", _compute(plan)),
        ("Notes", [f"- {note}" for note in (*tight, *plan.notes)]),
    ]
    blocks = [f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections if lines]
    return "\n\n".join([plan.title, *blocks]) + "\n"


def _model(plan: Plan) -> list[str]:
    s, p = plan.shape, plan.parameters
    return [
        f"{s.architecture}, {count(p.total)} parameters ({count(p.non_embedding)} without embeddings), "
        f"from {plan.shape_origin}",
        f"{s.num_layers} layers, hidden {s.hidden_size}, {s.num_heads} heads of {s.head_dim}, "
        f"{s.num_kv_heads} key-value heads, vocabulary {s.vocab_size}, context {s.context_length}",
    ]


def _actors(plan: Plan) -> list[str]:
    rows = [("role", "count", "CPUs each", "GPUs each")]
    rows += [(a.role, f"{a.count}", f"{a.cpus_each:g}", f"{a.gpus_each:g}") for a in plan.actors]
    cpus = sum(a.count * a.cpus_each for a in plan.actors)
    gpus = sum(a.count * a.gpus_each for a in plan.actors)
    rows.append(("total", f"{sum(a.count for a in plan.actors)}", f"{cpus:g}", f"{gpus:g}"))
    lines = table(rows)
    for index, node in enumerate(plan.nodes):
        held = ", ".join(f"{n} {role}" for role, n in node.actors.items())
        lines.append(f"node {index}: {held}" + (f" ({node.gpus:g} GPUs)" if node.gpus else ""))
    return lines


def _batch(plan: Plan) -> list[str]:
    b = plan.batch
    lines = [
        f"{b.prompts} {b.named[0]} x {b.samples} {b.named[1]} = {b.rows} rows a step, "
        f"at most {b.tokens_per_step:,} tokens ({b.response_tokens_per_step:,} of responses)",
        f"{b.epochs} epoch(s) x {b.minibatches} minibatches of {b.rows_per_minibatch} rows "
        f"= {b.optimizer_steps} optimizer steps",
        f"{b.ranks} rank(s), {b.rows_per_rank} rows each, in {b.micro_batches} micro-batches of up to "
        f"{-(-b.rows_per_rank // b.micro_batches)} rows of at most {b.row_tokens} tokens",
        f"per rank and step: {b.forward_backward} forward-and-backward passes, {b.forward_only} forward only",
    ]
    return lines


def _memory(plan: Plan) -> list[str]:
    rows = [
        (
            role,
            f"{sum(parts.values()):.3g}",
            f"{plan.loading[role]:.3g}" if role in plan.loading else "-",
            ", ".join(f"{k} {v:.3g}" for k, v in parts.items() if v),
        )
        for role, parts in plan.memory.items()
    ]
    return table([("role", "total", "loading", "of which"), *rows])


def _shared(plan: Plan) -> list[str]:
    """Makes a row for each moment of a shared GPU."""
    if not plan.shared:
        return []
    rows = [
        (m.name, f"{sum(m.engine.values()):.3g}", f"{sum(m.rank.values()):.3g}", f"{m.total:.3g}", m.largest)
        for m in plan.shared
    ]
    most = max(plan.shared, key=lambda moment: moment.total)
    return [
        *table([("moment", "engine", "rank", "with CUDA's own", "largest parts"), *rows]),
        f"engine and rank take turns, each with the whole card: of {plan.card_gib:.3g} GiB they take "
        f"{most.total:.3g} at most, in {most.name}",
    ]


def _resident(plan: Plan) -> list[str]:
    rows = [
        (role, f"{sum(parts.values()):.3g}", ", ".join(f"{name} {gib:.3g}" for name, gib in parts.items()))
        for role, parts in plan.resident.items()
    ]
    return table([("role", "total", "of which"), *rows]) if rows else []


def _host(plan: Plan) -> list[str]:
    """Makes a row for each node: its memory at each moment, and the largest of them."""
    if not plan.host:
        return []
    names = list(plan.host[0].moments)
    rows = [
        (f"node {k}", *(f"{node.moments[name]:.3g}" for name in names), f"{node.peak:.3g}")
        for k, node in enumerate(plan.host)
    ]
    return [
        *table([("", *names, "peak"), *rows]),
        "every response at full length, graders at their limit; beside that the driver (about 2 GiB), the system, and "
        "files that the kernel keeps while there is room",
    ]


def _weights(plan: Plan) -> list[str]:
    lines = [
        f"a checkpoint takes {plan.checkpoint_bytes / 1e9:.3g} GB on disk, "
        f"all that are there at one time {plan.disk_bytes / 1e9:.3g} GB"
    ]
    if any(actor.role == "rollout" for actor in plan.actors):
        lines.insert(0, f"a weight sync brings {plan.sync_bytes / 1e9:.3g} GB to each engine, {plan.sync_way}")
    return lines


def _compute(plan: Plan) -> list[str]:
    """Hours, then the stages of one step as a table, then what all of it assumes."""
    c = plan.compute
    if c is None:
        return []
    stages = [(name, f"{seconds:.1f}", f"{seconds / c.step:.0%}") for name, seconds in c.stages.items() if seconds]
    digits = 0 if c.gpu_hours >= 10 else 1
    return [
        f"about {c.gpu_hours:,.{digits}f} GPU-hours on {c.gpus:g} GPU{'s' if c.gpus > 1 else ''} "
        f"({c.gpu_hours / c.gpus:,.1f} hours)",
        *table([("one step", "seconds", "share"), *stages, ("in all", f"{c.step:.1f}", "")]),
        *(f"assumed: {a}" for a in c.assumptions),
    ]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns columns to the left, two spaces apart."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def count(n: int) -> str:
    """Writes a parameter count for people: 128k, 3.09B."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return str(n)
