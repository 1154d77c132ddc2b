"""Compute errors against the published models' outputs, by name and by family.

For every golden in a folder: the largest error of logits in inference mode (float32 and float64),
and in float64 the errors of logits, gradient norms and running statistics of a training step.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measuring import (
    RESULTS,
    ROOT,
    record_environment,
    result_path,
    shown,
    table,
    write_json,
)
from flax_resnet import create_model, from_torch, list_models, to_torch
from flax_resnet.models import count_parameters
from tools.goldens import weight

GOLDENS = ROOT / "tests" / "goldens"
FAMILIES = {
    "densenet": "densenet",
    "resnest": "resnest",
    "resnetv2": "resnetv2",
    "skres": "sknet",
    "res2ne": "res2net",
    "cifar": "cifar",
    "unet": "unet",
}
# Errors, in the order of the table's columns.
COLUMNS = ("float32", "float64", "train", "gradients", "running")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare every golden, write the JSON and print the table of families."""
    options = _parser().parse_args(arguments)
    paths = sorted(path for folder in options.goldens for path in folder.glob("*.npz"))
    cases = []
    for path in paths:
        name = _model_name(path)
        if name is None or (options.names and not re.fullmatch(options.names, name)):
            continue
        with jax.enable_x64(True):
            cases.append(compare(name, path, inference_only=options.inference_only))
        print(_line(cases[-1]), flush=True)
    result = {
        "benchmark": "parity",
        "environment": record_environment(options.note),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cases": cases,
    }
    path = result_path(options.output or RESULTS, "parity", jax.devices()[0].platform)
    write_json(path, result)
    print(f"\n{summary(cases)}\n\nwritten to {shown(path)}")
    return 0


def compare(name: str, path: Path, *, inference_only: bool) -> dict[str, Any]:
    """Return the errors of one model, each relative to the largest value of its kind."""
    facts = json.loads(path.with_suffix(".json").read_text())
    golden = dict(np.load(path))
    state_dict = {key: weight(key, shape) for key, shape in facts["state_dict"].items()}
    images = np.random.RandomState(0).standard_normal(facts["input"]).astype(np.float32)
    images = images.transpose(0, 2, 3, 1)
    case: dict[str, Any] = {
        "name": name,
        "family": next((f for key, f in FAMILIES.items() if name.startswith(key)), "resnet"),
        "torch_float32": facts["float32_vs_float64"],
        "parameters_equal": count_parameters(create_model(name)) == facts["params"],
    }
    for dtype in ("float32", "float64"):
        model = create_model(name, dtype=dtype)
        variables = jax.tree.map(
            lambda a, d=dtype: jnp.asarray(a, d), from_torch(model, state_dict)
        )
        logits = jax.jit(model.apply)(variables, jnp.asarray(images, dtype))
        case[dtype] = _error(np.asarray(logits), channels_last(golden["logits"]))
    if not inference_only:
        labels = make_labels(facts, golden["logits"].shape)
        case |= _training_errors(model, variables, jnp.asarray(images), labels, facts, golden)
    jax.clear_caches()
    return case


def _training_errors(
    model: Any, variables: Any, images: Any, labels: Any, facts: Any, golden: Any
) -> dict[str, float]:
    """Compare the results of one training step in float64, without an update."""
    images = images.astype(jnp.float64)

    def loss(params: Any) -> Any:
        given = {**variables, "params": params}
        logits, new = model.apply(given, images, train=True, mutable=["batch_stats"])
        return loss_of(logits, labels), (logits, new)

    # Optimizing takes longer than running once, and in float64 it makes no difference.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    step = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=options)
    (_, (logits, new)), gradients = step(variables["params"])
    found = to_torch(model, {"params": gradients, **new})
    # The gradient of a bias before a norm is only rounding, so tiny norms are not compared.
    least = 1e-6 * max(facts["grad_norm"].values())
    norms = {
        key: abs(float(np.linalg.norm(found[key])) - norm) / max(norm, least)
        for key, norm in facts["grad_norm"].items()
    }
    running = [
        max(abs(found[key].mean() - mean), abs(found[key].std(ddof=1) - std))
        for key, (mean, std) in facts["running"].items()
    ]
    return {
        "train": _error(np.asarray(logits), channels_last(golden["train_logits"])),
        "gradients": max(norms.values()),
        "running": float(max(running, default=0.0)),
    }


def channels_last(published: np.ndarray) -> np.ndarray:
    """Return a golden's logits with our axes: torch's maps have channels first."""
    return np.moveaxis(published, 1, -1) if published.ndim == 4 else published


def make_labels(facts: Any, shape: Sequence[int]) -> Any:
    """Return a golden's labels with our axes: one per image, or a 0 or 1 per pixel.

    Args:
      shape: shape of the golden's logits.
    """
    if len(shape) == 4:
        return channels_last(np.random.RandomState(1).randint(0, 2, shape))
    return jnp.asarray(facts["labels"])


def loss_of(logits: Any, labels: Any) -> Any:
    """Return the mean cross-entropy: softmax over classes, or sigmoid for every pixel."""
    if logits.ndim == 4:
        return (jnp.logaddexp(0, logits) - labels * logits).mean()
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()


def summary(cases: Sequence[dict[str, Any]]) -> str:
    """Return the worst errors of every family as a table."""
    rows = []
    for family in sorted({case["family"] for case in cases}):
        members = [case for case in cases if case["family"] == family]
        worst = (max(case.get(column, 0.0) for case in members) for column in COLUMNS)
        bar = max(case["torch_float32"] for case in members)
        equal = sum(case["parameters_equal"] for case in members)
        counts = f"{equal}/{len(members)}"
        rows.append((family, str(len(members)), counts, f"{bar:.1e}", *(f"{w:.1e}" for w in worst)))
    header = ("family", "names", "counts equal", "torch float32", *COLUMNS)
    return table(header, rows)


def _model_name(path: Path) -> str | None:
    """Return our name of a golden's model, or None if the table does not have it."""
    source, _, name = path.stem.partition(".")
    name = f"cifar_{name}" if source == "cifar" else name or source
    return name if name in list_models() else None


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _line(case: dict[str, Any]) -> str:
    errors = " ".join(f"{key} {case[key]:.1e}" for key in COLUMNS if key in case)
    return f"{case['name']}: {errors} (torch float32 {case['torch_float32']:.1e})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--goldens", nargs="+", type=Path, default=[GOLDENS], help="default: tests/goldens"
    )
    parser.add_argument("--names", help="a regular expression of names; default: all")
    parser.add_argument("--inference-only", action="store_true")
    parser.add_argument("--output", type=Path, help="folder of the JSON")
    parser.add_argument("--note", default="", help="a remark to keep with the numbers")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
