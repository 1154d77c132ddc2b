"""ONNX models have the same logits in onnxruntime, for batches of any size."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from flax_resnet import InputError, create_model
from flax_resnet.__main__ import main
from flax_resnet.data import DataConfig
from flax_resnet.export.network import as_function
from flax_resnet.export.onnx import to_onnx, write_onnx
from flax_resnet.export.onnx_operators import OPERATORS
from flax_resnet.inference.predictor import Predictor, open_predictor
from tests.weights.test_folding import FAMILIES, filled

FEW = dict(stage_sizes=(1, 1), widths=(32, 64), num_classes=5, image_size=32)
NETWORKS = FAMILIES | {
    "ecaresnet26t": FEW | dict(block=("bottleneck",) * 2),
    "resnetblur18": FEW,
    "resnetv2_50d_evos": FEW | dict(widths=(64, 128)),
    "resnetv2_50x1_bit": FEW,
    "resnext50_32x4d": FEW | dict(cardinality=4),
    "resnet18d": FEW | dict(activation="gelu"),
    "highway_conv19": {},
}


def predictor(name: str, **arguments: object) -> Predictor:
    model = create_model(name, **arguments)
    colors = dict(channels=model.in_channels, mean=(0.5,) * model.in_channels)
    data = DataConfig(image_size=model.image_size, std=colors["mean"], **colors)
    return Predictor(name, model, filled(model), data)


# Expensive to trace; the quick families cover nearly all operators.
QUICK = {"resnet18", "resnet50d", "resnetv2_50d_evos", "unet"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in NETWORKS],
)
def test_onnxruntime_gets_the_logits_of_every_family(name: str) -> None:
    network = as_function(predictor(name, **NETWORKS[name]), preprocess=True)
    session = onnxruntime.InferenceSession(to_onnx(network))
    images = np.random.default_rng(0).integers(0, 256, (3, *network.image_shape), np.uint8)
    expected = np.asarray(jax.jit(network.__call__)(images))
    for count in (1, 3):
        (found,) = session.run(["logits"], {"images": images[:count]})
        assert found.dtype == np.float32
        limit = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(found, expected[:count], atol=limit, rtol=0)


ELSEWHERE = """
import sys
import numpy as np, onnxruntime

file, images, logits = sys.argv[1:]
session = onnxruntime.InferenceSession(file)
np.save(logits, session.run(None, {"images": np.load(images)})[0])
assert "jax" not in sys.modules
"""


@pytest.mark.slow
def test_a_program_without_jax_gets_a_runs_probabilities(tiny_run: Path, tmp_path: Path) -> None:
    file, images, logits = (tmp_path / name for name in ("n.onnx", "images.npy", "logits.npy"))
    words = ["export", str(tiny_run), "--format", "onnx", "--preprocess", "--out", str(file)]
    assert main(words) == 0
    assert file.with_name("n.onnx.json").is_file()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    np.save(images, pixels)
    subprocess.run([sys.executable, "-I", "-c", ELSEWHERE, file, images, logits], check=True)
    expected = open_predictor(tiny_run).probabilities(pixels)
    np.testing.assert_allclose(jax.nn.softmax(np.load(logits)), expected, atol=1e-5)


def test_norms_are_folded_and_weights_alone_are_kept() -> None:
    row = FAMILIES["resnet18"]
    made = onnx.load_from_string(to_onnx(as_function(predictor("resnet18", **row))))
    counts = [node.op_type for node in made.graph.node]
    assert "Sqrt" not in counts
    leaves = jax.tree.leaves(filled(create_model("resnet18", **row)))
    assert counts.count("Conv") == sum(leaf.ndim == 4 for leaf in leaves)


def test_an_unsupported_operation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = as_function(predictor("resnet18", **FAMILIES["resnet18"]))
    monkeypatch.delitem(OPERATORS, "max")
    with pytest.raises(InputError, match="'max' is not supported"):
        write_onnx(network, tmp_path / "n.onnx")
    assert list(tmp_path.iterdir()) == []
