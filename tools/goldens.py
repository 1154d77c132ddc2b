"""Make goldens: what timm's model of a name gives in float64, with weights by rule.

Needs torch and timm, which are no dependencies of this project. `tests/goldens/README.md` has the
rule and the form of the files; `python -m tools.parity --goldens FOLDER` compares with them.
"""

import argparse
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LABELS = (1, 7)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a pair of files for every name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", help="timm's names, such as resnet50d")
    parser.add_argument("--output", type=Path, required=True, help="folder of the files")
    parser.add_argument("--image-size", type=int, default=96)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        facts, arrays = golden(name, options.image_size)
        stem = options.output / f"timm.{name}"
        stem.with_name(f"{stem.name}.json").write_text(json.dumps(facts))
        path, (logits, train_logits) = stem.with_name(f"{stem.name}.npz"), arrays
        np.savez_compressed(path, logits=logits, train_logits=train_logits)
        print(f"{name}: {facts['params']:,} parameters", flush=True)
    return 0


def golden(name: str, image_size: int) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    """Return the facts of one model, and its logits in inference and in training mode."""
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.peers.torch_side import import_timm

    model = import_timm().create_model(name)
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(weight(key, s)) for key, s in shapes.items()})
    shape = (len(LABELS), 3, image_size, image_size)
    images = np.random.RandomState(0).standard_normal(shape).astype(np.float32)
    with torch.no_grad():
        narrow = model.eval()(torch.from_numpy(images)).double().numpy()
        logits = model.double()(torch.from_numpy(images).double()).numpy()
    train_logits = model.train()(torch.from_numpy(images).double())
    loss = cross_entropy(train_logits, torch.tensor(LABELS))
    loss.backward()
    running = {key: value for key, value in model.state_dict().items() if "running" in key}
    facts = {
        "source": "timm",
        "name": name,
        "input": list(shape),
        "labels": list(LABELS),
        "params": sum(value.numel() for value in model.parameters()),
        "float32_vs_float64": float(np.abs(narrow - logits).max() / np.abs(logits).max()),
        "train_loss": float(loss.detach()),
        "grad_norm": {key: float(value.grad.norm()) for key, value in model.named_parameters()},
        "running": {key: [float(v.mean()), float(v.std())] for key, v in running.items()},
        "state_dict": shapes,
    }
    return facts, (logits, train_logits.detach().numpy())


def weight(key: str, shape: Sequence[int]) -> np.ndarray:
    """Return the weights that the rule gives a key of this shape."""
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        value = rng.uniform(0.8, 1.2, shape)
    elif len(shape) > 1:
        value = np.sqrt(2 / np.prod(shape[1:])) * rng.standard_normal(shape)
    elif key.endswith("weight"):
        value = rng.uniform(0.5, 1.0, shape)
    else:
        value = 0.1 * rng.standard_normal(shape)
    return value.astype(np.float32)


if __name__ == "__main__":
    raise SystemExit(main())
