"""Compare training with torch's: the same recipe, initial weights and batches.

    python -m benchmarks.peers.accuracy steps --config configs/fashion_mnist.py --steps 100
    python -m benchmarks.peers.accuracy runs --config configs/fashion_mnist.py --set epochs=3

`steps` follows four trainings step by step, ours and torch's in float32 and in float64: losses,
gradients and weights agree until rounding drives them apart, which float64 delays. `runs` trains
whole runs in float32 with several seeds and compares their test accuracies; the JSON is written
after each seed, and `--add-to` continues one. Our side is the trainer's own step; torch's network,
loss and optimizer are its own. The recipe has to train a CIFAR network with SGD.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import stats

import flax_resnet
from benchmarks.measuring import (
    add_result_options,
    record_environment,
    shown,
    table,
    target_path,
    write_json,
)
from benchmarks.parts import add_peer_option, device_name, missing_modules, run_part
from benchmarks.peers.training_case import TrainingCase, read_record
from benchmarks.trainer.overhead import load_config
from flax_resnet.data import open_source
from flax_resnet.data.batches.in_memory import load_evaluation
from flax_resnet.steps.state import init_state
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.setup import Setup, prepare_run

# What follows step by step: (framework, dtype), the last being what the others are compared with.
TRAININGS = (
    ("jax", "float32"),
    ("torch", "float32"),
    ("torch", "float64"),
    ("jax", "float64"),
)
NAMES = {"jax": "flax_resnet", "torch": "torch"}
CONFIDENCE = 0.95
# Pixels that are already normalized: these make the normalization the identity, exactly.
IDENTITY = {"mean": (0.0,), "std": (1 / 255,)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, write the JSON and print a table; return 1 if a training failed."""
    options = _parser().parse_args(arguments)
    config = checked(load_config(options.config, options.set))
    lacking = missing_modules(("torch",), options.peer_python)
    if lacking:
        raise SystemExit("torch is not installed; pass --peer-python, or set PEER_PYTHON")
    environment = record_environment(options.note)
    device = device_name("cpu", environment)
    result = {
        "benchmark": f"accuracy_beside_torch_{options.kind}",
        "environment": environment,
        "device": device,
        "config": f"configs/{options.config.name}",
        "changes": options.set,
        "settings": config.to_dict(),
    }
    label = f"beside torch {options.kind} {options.config.stem} {config.model.name}"
    path = target_path(options, label, device)
    compare = compare_steps if options.kind == "steps" else compare_runs
    status = compare(config, options, result, path)
    print(f"\n{report(result)}\n\nwritten to {shown(path)}")
    return status


def checked(config: TrainConfig) -> TrainConfig:
    """Return the settings if torch's side knows all of them.

    Raises:
      SystemExit: it does not.
    """
    wanted = {
        "task": (config.task, "classification"),
        "loss": (config.loss, "softmax"),
        "optimizer.name": (config.optimizer.name, "sgd"),
        "optimizer.clip_norm": (config.optimizer.clip_norm or 0, 0),
        "optimizer.clip_adaptive": (config.optimizer.clip_adaptive or 0, 0),
        "optimizer.layer_decay": (config.optimizer.layer_decay, 1.0),
        "freeze": (config.freeze, ""),
        "class_weights": (config.class_weights, "none"),
        "accumulate": (config.accumulate, 1),
        "mix.mixup, mix.cutmix": ((config.mix.mixup, config.mix.cutmix), (0.0, 0.0)),
        "data.eval_flip": (config.data.eval_flip, False),
        "data.on_device": (config.data.on_device, False),
    }
    wrong = [f"{key} is {found!r}" for key, (found, known) in wanted.items() if found != known]
    if not config.model.name.startswith("cifar_resnet"):
        wrong.append(f"model.name is {config.model.name!r}")
    if wrong:
        raise SystemExit(f"torch's side trains a CIFAR network with SGD alone; {', '.join(wrong)}")
    return config


def compare_steps(
    config: TrainConfig, options: argparse.Namespace, result: dict[str, Any], path: Path
) -> int:
    """Follow all trainings for some steps; add losses and differences to the result."""
    steps = options.steps or (4 if options.quick else 100)
    kept = kept_steps(steps)
    result |= {"steps": steps, "kept_steps": kept, "outcomes": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = prepared_case(config, steps, folder, normalized=True)
        case = dataclasses.replace(case, kept_steps=kept)
        for framework, dtype in TRAININGS:
            each = dataclasses.replace(case, dtype=dtype, record=f"{framework}-{dtype}")
            outcome = run_training(framework, each, options)
            result["outcomes"][each.record] = outcome
            if outcome["status"] != "done":
                write_json(path, result)
                return 1
        records = {
            f"{framework}-{dtype}": read_record(folder, f"{framework}-{dtype}")
            for framework, dtype in TRAININGS
        }
    exact = records.pop("jax-float64")
    result["losses"] = {"jax-float64": exact["loss"].tolist()}
    result["losses"] |= {name: record["loss"].tolist() for name, record in records.items()}
    result["differences"] = {
        name: {
            kind: [relative(record[f"{kind}/{step}"], exact[f"{kind}/{step}"]) for step in kept]
            for kind in ("loss", "gradient", "weights")
        }
        for name, record in records.items()
    }
    write_json(path, result)
    return 0


def kept_steps(steps: int) -> tuple[int, ...]:
    """Return steps whose distances grow, to the last one: 0, 1, 2, 5, 10, 20, 50, ..."""
    scale = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    return (0, *(step for step in scale if step < steps - 1), steps - 1)


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the norm of the difference relative to that of the exact values."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def compare_runs(
    config: TrainConfig, options: argparse.Namespace, result: dict[str, Any], path: Path
) -> int:
    """Train with each seed on both sides; add the accuracies and their difference."""
    result["runs"] = runs = earlier_runs(options.add_to, result)
    done = {run["seed"] for run in runs}
    for seed in range(config.seed, config.seed + options.seeds):
        if seed in done:
            continue
        seeded = dataclasses.replace(config, seed=seed)
        with tempfile.TemporaryDirectory() as name:
            case = prepared_case(seeded, options.steps, Path(name), normalized=False)
            case = dataclasses.replace(case, tests=True)
            run: dict[str, Any] = {"seed": seed, "steps": len(case.read("labels"))}
            for framework in ("jax", "torch"):
                each = dataclasses.replace(case, dtype="float32", record=framework)
                outcome = run_training(framework, each, options)
                if outcome["status"] != "done":
                    run[framework] = outcome
                    result["failed"] = run
                    write_json(path, result)
                    return 1
                record = read_record(Path(name), framework)
                right = record["predicted"] == case.read("test_labels")
                run[framework] = outcome | {
                    "accuracy": float(right.mean()),
                    "loss": record["loss"].tolist(),
                }
        runs.append(run)
        result["summary"] = summarized(runs)
        write_json(path, result)
    return 0


def earlier_runs(path: Path | None, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of an earlier result of the same recipe and settings.

    Raises:
      SystemExit: it has other settings.
    """
    if path is None:
        return []
    earlier = json.loads(path.read_text())
    same = json.loads(json.dumps(result["settings"]))
    if earlier["settings"] | {"seed": 0} != same | {"seed": 0}:
        raise SystemExit(f"{path} compares other settings; expected those of this call")
    found: list[dict[str, Any]] = earlier["runs"]
    return found


def summarized(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means, deviations, and the mean of ours minus torch's with its interval.

    The interval is Student's for differences of pairs: both sides of a seed have the same initial
    weights and batches.
    """
    ours, peer = (np.asarray([run[name]["accuracy"] for run in runs]) for name in ("jax", "torch"))
    differences, found = ours - peer, dict[str, Any](seeds=len(runs))
    for name, values in (("jax", ours), ("torch", peer), ("difference", differences)):
        deviation = float(values.std(ddof=1)) if len(values) > 1 else None
        found[name] = {"mean": float(values.mean()), "deviation": deviation}
    if len(runs) > 1:
        reach = stats.t.ppf((1 + CONFIDENCE) / 2, len(runs) - 1)
        half = float(reach * differences.std(ddof=1) / len(runs) ** 0.5)
        mean = float(differences.mean())
        found["interval"] = {"confidence": CONFIDENCE, "from": mean - half, "to": mean + half}
    return found


def prepared_case(
    config: TrainConfig, steps: int | None, folder: Path, normalized: bool
) -> TrainingCase:
    """Write what all sides of a training read, and return its description.

    Args:
      steps: of the run's; None: all.
      normalized: write normalized pixels, so that no side rounds them in its own way.
    """
    setup = prepare_run(config)
    config, count = setup.config, min(steps or setup.steps, setup.steps)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    _write_weights(setup, folder)
    _write_batches(setup, count, folder, normalized)
    assert setup.rate is not None  # The optimizer is not of the caller's own.
    rates = [float(setup.rate(step)) for step in range(count)]
    np.save(folder / "rates.npy", np.asarray(rates, np.float32))
    data, optimizer = config.data, config.optimizer
    if not normalized:
        split = data.test_split or data.eval_split
        held_out = load_evaluation(open_source(data, split), data)
        np.save(folder / "test_images.npy", held_out.images)
        np.save(folder / "test_labels.npy", held_out.labels)
    chosen = IDENTITY if normalized else {"mean": data.mean, "std": data.std}
    return TrainingCase(
        phase="train",
        mode="",
        platform="cpu",
        model=config.model.name,
        batch_size=data.batch_size,
        image_size=data.image_size,
        num_classes=config.model.num_classes or 0,
        folder=str(folder),
        momentum=optimizer.momentum,
        nesterov=optimizer.nesterov,
        weight_decay=optimizer.weight_decay,
        decay_norms=optimizer.decay_norms,
        label_smoothing=config.label_smoothing,
        **chosen,
    )


def _write_weights(setup: Setup, folder: Path) -> None:
    data = setup.config.data
    shape = (data.image_size, data.image_size, data.channels)
    state = init_state(setup.model, setup.optimizer, setup.config.seed, shape, setup.mesh)
    weights = flax_resnet.to_torch(setup.model, jax.device_get(state.variables))
    np.savez(folder / "initial.npz", **weights)  # type: ignore[arg-type]


def _write_batches(setup: Setup, count: int, folder: Path, normalized: bool) -> None:
    data = setup.config.data
    shape = (count, data.batch_size, data.image_size, data.image_size, data.channels)
    dtype = np.float32 if normalized else np.uint8
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", dtype, shape)
    labels = np.zeros(shape[:2], np.int32)
    mean, std = (np.asarray(values, np.float32) for values in (data.mean, data.std))
    batches = setup.training_batches(0, count)
    try:
        for number, batch in enumerate(batches):
            pixels = batch["image"]
            images[number] = (pixels / np.float32(255) - mean) / std if normalized else pixels
            labels[number] = batch["label"]
    finally:
        batches.close()
    np.save(folder / "labels.npy", labels)


def run_training(framework: str, case: TrainingCase, options: argparse.Namespace) -> dict[str, Any]:
    """Train in an own process; print and return how it ended."""
    python = options.peer_python if framework == "torch" else sys.executable
    outcome = run_part(f"benchmarks.peers.training_{framework}", case, options.limit_s, python)
    reason = f": {outcome['reason']}" if outcome["status"] == "failed" else ""
    print(f"{NAMES[framework]}, {case.dtype}: {outcome['status']}{reason}", flush=True)
    outcome.pop("started_at", None)
    return outcome


def report(result: Mapping[str, Any]) -> str:
    """Return the table of what was compared."""
    if "differences" in result:
        header = ["step", "loss"]
        header += [
            f"{kind}, {name}" for name in result["differences"] for kind in ("loss", "gradient")
        ]
        rows = []
        for at, step in enumerate(result["kept_steps"]):
            cells = [str(step), f"{result['losses']['jax-float64'][step]:.4f}"]
            for found in result["differences"].values():
                cells += [f"{found['loss'][at]:.1e}", f"{found['gradient'][at]:.1e}"]
            rows.append(cells)
        return table(header, rows)
    if "summary" not in result:
        return "nothing was compared"
    rows = [
        [str(run["seed"]), *(f"{run[name]['accuracy']:.2%}" for name in ("jax", "torch"))]
        for run in result["runs"]
    ]
    found = result["summary"]
    rows.append(["mean", *(f"{found[name]['mean']:.2%}" for name in ("jax", "torch"))])
    lines = [table(["seed", "flax_resnet", "torch"], rows)]
    if interval := found.get("interval"):
        lines.append(
            f"ours minus torch's: {found['difference']['mean']:+.2%}, {CONFIDENCE:.0%} interval "
            f"{interval['from']:+.2%} to {interval['to']:+.2%}"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=("steps", "runs"), help="what to compare")
    parser.add_argument("--config", type=Path, required=True, help="the file of a recipe")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting"
    )
    parser.add_argument("--steps", type=int, help="default: 100, or for runs the recipe's")
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each side")
    parser.add_argument("--add-to", type=Path, metavar="JSON", help="runs that are done already")
    parser.add_argument("--limit-s", type=float, default=24 * 3600.0, help="for one training")
    add_peer_option(parser)
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
