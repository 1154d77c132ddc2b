"""Summarize the parts of a benchmark: medians over rounds, ratios to the peers, tables."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.measuring import summarize, table

TITLES = {
    "jax-train": "training, flax_resnet",
    "torch-eager-train": "training, torch eager",
    "torch-compile-train": "training, torch.compile",
    "jax-inference": "inference, flax_resnet",
    "jax-folded-inference": "inference, flax_resnet, norms folded",
    "torch-eager-inference": "inference, torch eager",
    "torch-compile-inference": "inference, torch.compile",
    "torch-frozen-inference": "inference, torch.compile, frozen",
}
# Our parts, without the prefix `jax-`, and the peers that do the same.
PEERS = {
    "train": ("torch-eager", "torch-compile"),
    "inference": ("torch-eager", "torch-compile"),
    "folded-inference": ("torch-eager", "torch-compile", "torch-frozen"),
}
Parts = dict[str, dict[str, Any]]


def merge_round(parts: Parts, name: str, outcome: dict[str, Any], batch_size: int) -> None:
    """Add the outcome of a part in one round, and summarize its rounds so far.

    The part has failed if one of its rounds failed; otherwise it is done if one of them is.
    """
    rounds = [*parts.get(name, {}).get("rounds", []), outcome]
    statuses = [entry["status"] for entry in rounds]
    status = next(kind for kind in ("failed", "done", "skipped") if kind in statuses)
    part: dict[str, Any] = {"status": status, "rounds": rounds}
    reasons = [entry["reason"] for entry in rounds if "reason" in entry]
    if reasons:
        part["reason"] = reasons[-1]
    measured = [entry for entry in rounds if "repeats" in entry]
    if measured:
        repeats = [repeat for entry in measured for repeat in entry["repeats"]]
        part["images_per_second"] = summarize(
            [batch_size * repeat["steps"] / repeat["seconds"] for repeat in repeats]
        )
        part["cpu_s_per_step"] = summarize(
            [repeat["cpu_seconds"] / repeat["steps"] for repeat in repeats]
        )
        part["first_step_s"] = summarize([entry["first_step_s"] for entry in measured])
    parts[name] = part


def ratios(parts: Parts) -> dict[str, dict[str, Any]]:
    """Return flax_resnet's images/s over each peer's, and over the best peer's, summarized.

    There is one ratio per round, of that round's medians: a slowdown that lasts longer than a
    round affects both sides.
    """
    found: dict[str, dict[str, Any]] = {}
    for ours, peers in PEERS.items():
        phase = ours.rpartition("-")[2]
        mine = _round_speeds(parts, f"jax-{ours}")
        theirs = {peer: _round_speeds(parts, f"{peer}-{phase}") for peer in peers}
        against = {}
        for peer, speeds in theirs.items():
            both = mine.keys() & speeds.keys()
            if both:
                against[peer] = summarize([mine[turn] / speeds[turn] for turn in sorted(both)])
        if against:
            best = min(against, key=lambda peer: against[peer]["median"])
            found[ours] = against | {"best": against[best]}
    return found


def shares(parts: Parts) -> dict[str, dict[str, float]]:
    """Return the share of the ceilings, measured in the same run, that each part reaches.

    `flops` compares the network's flops with a large matrix product. `bytes` compares what XLA's
    kernels read and write with a large copy; the peers have none.
    """
    ceilings = _last_round(parts, "jax-ceilings", "flops_per_s")
    found: dict[str, dict[str, float]] = {}
    for name in TITLES:
        work = _last_round(parts, f"jax-{name.rpartition('-')[2]}", "work").get("work")
        if not ceilings or not work or not _speed(parts, name):
            continue
        steps_per_s = _speed(parts, name) / work["batch_size"]
        flops = work["model_flops"] * steps_per_s / ceilings["flops_per_s"]["median"]
        found[name] = {"flops": flops}
        if name.startswith("jax") and work["xla_bytes"]:
            moved = work["xla_bytes"] * steps_per_s / ceilings["bytes_per_s"]["median"]
            found[name]["bytes"] = moved
    return found


def part_tables(result: dict[str, Any]) -> str:
    """Return a line of settings, a table of the parts, and the ratios."""
    settings, parts = result["settings"], result["parts"]
    header = ("", "images/s", "spread", "flops", "bytes", "peak GiB", "cpu s", "first step s")
    rows = [
        (title, *_cells(parts[name], result["shares"].get(name, {})))
        for name, title in TITLES.items()
        if name in parts
    ]
    lines = [
        f"{settings['model']}, {settings['dtype']}, batch {settings['batch_size']}, "
        f"{settings['image_size']} px, on {result['device']}; {result['elapsed_s']:.0f} s in all",
        "",
        table(header, rows),
        "",
    ]
    ceilings = _last_round(parts, "jax-ceilings", "flops_per_s")
    if ceilings:
        flops, moved = ceilings["flops_per_s"]["median"], ceilings["bytes_per_s"]["median"]
        lines.append(
            f"flops, bytes: shares of a matrix product's {flops / 1e12:.3g} TFLOP/s and of a "
            f"copy's {moved / 1e12:.3g} TB/s here"
        )
    for phase, values in result["ratios"].items():
        against = ", ".join(f"{value['median']:.2f} x {peer}" for peer, value in values.items())
        lines.append(f"{phase}: flax_resnet at {against}")
    for name, part in parts.items():
        if part["status"] != "done":
            lines.append(f"{part['status']}: {name}, {part['reason']}")
    return "\n".join(lines)


def _cells(part: dict[str, Any], share: dict[str, float]) -> Sequence[str]:
    if "images_per_second" not in part:
        return (part["status"], "", "", "", "", "", "")
    speed = part["images_per_second"]
    memory = next(entry for entry in part["rounds"] if "memory" in entry)["memory"]
    return (
        f"{speed['median']:,.1f}",
        f"{speed['spread']:.1%}",
        f"{share['flops']:.0%}" if "flops" in share else "",
        f"{share['bytes']:.0%}" if "bytes" in share else "",
        _memory_cell(memory),
        f"{part['cpu_s_per_step']['median']:.2f}",
        f"{part['first_step_s']['median']:.1f}",
    )


def _memory_cell(memory: dict[str, Any]) -> str:
    if memory.get("peak_is_of_compiling"):
        return f"{memory['planned'] / 2**30:.1f} planned"
    return "" if memory["peak"] is None else f"{memory['peak'] / 2**30:.1f}"


def _speed(parts: Parts, name: str) -> float:
    return parts.get(name, {}).get("images_per_second", {}).get("median", 0.0)


def _round_speeds(parts: Parts, name: str) -> dict[int, float]:
    """Return the median steps/s of each measured round."""
    return {
        turn: statistics.median(repeat["steps"] / repeat["seconds"] for repeat in entry["repeats"])
        for turn, entry in enumerate(parts.get(name, {}).get("rounds", []))
        if "repeats" in entry
    }


def _last_round(parts: Parts, name: str, key: str) -> dict[str, Any]:
    """Return the part's last round that has `key`, or an empty dict."""
    rounds = parts.get(name, {}).get("rounds", [])
    return next((entry for entry in reversed(rounds) if key in entry), {})
