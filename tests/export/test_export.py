"""Exported networks have the same logits in their own runtimes."""

import dataclasses
import functools
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from flax_resnet import (
    InputError,
    create_model,
    fold_batch_norm,
    load_pretrained,
    restore,
    save_pretrained,
)
from flax_resnet.__main__ import main
from flax_resnet.data import DataConfig
from flax_resnet.export.formats import write_hub, write_savedmodel, write_stablehlo
from flax_resnet.export.network import Exported, as_function
from flax_resnet.export.onnx import write_onnx
from flax_resnet.inference.predictor import Predictor, open_predictor
from flax_resnet.weights import Description

# A program that has jax but not this library.
ELSEWHERE = """
import sys
import numpy as np
from jax import export

file, images, logits = sys.argv[1:]
with open(file, "rb") as opened:
    network = export.deserialize(bytearray(opened.read()))
images = np.load(images)
found = [np.asarray(network.call(images[:count])) for count in (1, 3)]
np.testing.assert_array_equal(found[1][:1].argmax(), found[0].argmax())
np.save(logits, found[1])
assert "flax_resnet" not in sys.modules and "flax" not in sys.modules
"""


@functools.cache
def small(name: str, size: int = 32, **arguments: object) -> Predictor:
    model = create_model(name, num_classes=5, image_size=size, **arguments)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, size, size, 3)))
    noisy = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.abs(jnp.sin(leaf + 1)), variables)
    return Predictor(name, model, noisy, DataConfig(image_size=size))


def images_for(network: Exported) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal((3, *network.image_shape))
    return (128 + 40 * noise).astype(np.uint8) if network.preprocess else noise.astype(np.float32)


def logits_elsewhere(file: Path, images: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "images.npy", images)
    command = [sys.executable, "-I", "-c", ELSEWHERE, file, folder / "images.npy"]
    subprocess.run([*command, folder / "logits.npy"], cwd=folder, check=True)
    logits: np.ndarray = np.load(folder / "logits.npy")
    return logits


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [
        ("cifar_resnet20", True),
        pytest.param("cifar_resnet20", False, marks=pytest.mark.slow),
        pytest.param("resnet50d", True, marks=pytest.mark.slow),
        pytest.param("resnet50d", False, marks=pytest.mark.slow),
    ],
)
def test_another_program_gets_the_same_logits_from_stablehlo(
    name: str, preprocess: bool, tmp_path: Path
) -> None:
    gate = {"gate": "se"} if name == "resnet50d" else {}
    opened = small(name, stage_sizes=(1, 1), widths=(16, 32), **gate)
    network = as_function(opened, preprocess=preprocess)
    assert write_stablehlo(network, tmp_path / "n.stablehlo") < 1e-5
    plain = as_function(opened, fold=False, preprocess=preprocess)
    images = images_for(network)
    expected = np.asarray(jax.jit(plain.__call__)(images))
    assert_close(logits_elsewhere(tmp_path / "n.stablehlo", images, tmp_path), expected)


@pytest.mark.slow
def test_a_network_without_batch_norms_is_exported_as_it_is(tmp_path: Path) -> None:
    network = as_function(small("resnet18", norm="group", stage_sizes=(1, 1), widths=(32, 64)))
    assert write_stablehlo(network, tmp_path / "n.stablehlo") < 1e-5


def test_the_description_states_how_images_are_prepared(tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "n.stablehlo"
    assert main(["export", str(tiny_run), "--preprocess", "--out", str(file)]) == 0
    told = json.loads(file.with_name("n.stablehlo.json").read_text())
    run, opened = restore(tiny_run), open_predictor(tiny_run)
    assert told["classes"] == list(run.class_names)
    assert told["input"] == {"shape": ["b", 8, 8, 3], "dtype": "uint8"}
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    logits = logits_elsewhere(file, pixels, tmp_path)
    assert_close(np.asarray(jax.nn.softmax(logits)), opened.probabilities(pixels))


@pytest.mark.slow
def test_a_segmentation_network_is_described_by_pixel() -> None:
    network = as_function(small("unet", base_width=4, depth=2))
    assert network.describe()["output"]["shape"] == ["b", 32, 32, 5]
    assert "centre_crop" not in network.describe()


@pytest.mark.slow
def test_a_segmentation_network_has_logits_of_every_pixel(tmp_path: Path) -> None:
    network = as_function(small("unet", base_width=4, depth=2))
    write_stablehlo(network, tmp_path / "n.stablehlo")
    images = images_for(network)
    expected = np.asarray(jax.jit(network.__call__)(images))
    assert_close(logits_elsewhere(tmp_path / "n.stablehlo", images, tmp_path), expected)


def test_a_saved_model_gives_tensorflow_the_same_logits(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    network = as_function(small("cifar_resnet20"))
    assert write_savedmodel(network, tmp_path / "saved") < 1e-5
    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    images = images_for(network)
    expected = np.asarray(jax.jit(network.__call__)(images))
    for count in (1, 3):
        found = serve(images=tf.constant(images[:count]))["logits"].numpy()
        assert_close(found, expected[:count])


def test_safetensors_have_the_published_keys_and_load_again(tiny_run: Path, tmp_path: Path) -> None:
    words = ["export", str(tiny_run), "--format", "safetensors", "--out", str(tmp_path / "hub")]
    assert main(words) == 0
    tensors = load_file(tmp_path / "hub" / "model.safetensors")
    assert {"conv1.weight", "layer1.0.bn1.running_mean", "fc.weight"} <= set(tensors)
    model, variables = load_pretrained(tmp_path / "hub")
    run = restore(tiny_run)
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    expected = run.model.apply(run.variables, images, train=False)
    assert_close(np.asarray(model.apply(variables, images, train=False)), np.asarray(expected))


def test_class_names_and_their_descriptions_survive_every_export(
    tiny_run: Path, tmp_path: Path, pictures: Path
) -> None:
    run = restore(tiny_run)
    names = tuple(f"n{number:08}" for number in range(10))
    meanings = {name: f"the meaning of {name}" for name in names}
    folders = [tmp_path / name for name in ("saved", "exported", "again")]
    save_pretrained(
        run.model,
        run.variables,
        folders[0],
        architecture="tiny",
        class_names=names,
        class_descriptions=meanings,
    )
    for source, folder in pairwise(folders):
        words = ["export", str(source), "--format", "safetensors", "--out", str(folder)]
        assert main(words) == 0
        config = json.loads((folder / "config.json").read_text())
        assert config["label_names"] == list(names)
        assert config["label_descriptions"] == meanings
    assert main(["export", str(folders[2]), "--out", str(tmp_path / "n.stablehlo")]) == 0
    assert json.loads((tmp_path / "n.stablehlo.json").read_text())["classes"] == list(names)
    out = tmp_path / "found.jsonl"
    assert main(["predict", str(folders[2]), str(pictures / "a.png"), "--jsonl", str(out)]) == 0
    assert {each["class"] for each in json.loads(out.read_text())["classes"]} <= set(names)


def test_names_that_are_not_known_are_not_made_up(tiny_run: Path, tmp_path: Path) -> None:
    run = restore(tiny_run)
    save_pretrained(run.model, run.variables, tmp_path / "saved", architecture="tiny")
    words = ["--format", "safetensors", "--out", str(tmp_path / "hub")]
    assert main(["export", str(tmp_path / "saved"), *words]) == 0
    assert "label_names" not in json.loads((tmp_path / "hub" / "config.json").read_text())
    assert main(["export", str(tiny_run), *words]) == 0
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["label_names"] == list(run.class_names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "stablehl"], "Did you mean 'stablehlo'?"),
        (["--format", "safetensors", "--preprocess"], "only weights"),
        (["--out", "nowhere/n.stablehlo"], "cannot be written to"),
    ],
)
def test_invalid_exports_are_one_error(
    tiny_run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(tiny_run), *words])
    assert message in capsys.readouterr().err


WRITERS = {
    "stablehlo": write_stablehlo,
    "onnx": write_onnx,
    "savedmodel": write_savedmodel,
    "safetensors": lambda network, path: write_hub(network, path, Description("cifar_resnet20")),
}


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize(("factor", "difference"), [(1.01, r"\de-0[123]"), (np.nan, "nan")])
def test_a_program_with_other_logits_than_the_network_is_not_written(
    form: str, factor: float, difference: str, tmp_path: Path
) -> None:
    if form == "savedmodel":
        pytest.importorskip("tensorflow")
    network = as_function(small("cifar_resnet20"), fold=False)
    wrong = jax.tree.map(lambda leaf: factor * leaf, network.variables)
    other = dataclasses.replace(network, variables=wrong)
    (tmp_path / "n").write_text("an earlier export")
    if form in ("savedmodel", "safetensors"):
        (tmp_path / "n").unlink()
    before = list(tmp_path.iterdir())
    message = rf"n is not written: .*differ .* by {difference} of the|numbers are not finite"
    with pytest.raises(InputError, match=message):
        WRITERS[form](dataclasses.replace(other, original=network), tmp_path / "n")
    assert list(tmp_path.iterdir()) == before
    assert all(path.read_text() == "an earlier export" for path in before)


@pytest.mark.parametrize("form", ["stablehlo", "onnx"])
def test_a_wrong_folding_is_noticed(
    form: str, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: Any, variables: Any) -> tuple[Any, Any]:
        folded, leaves = fold_batch_norm(model, variables)
        return folded, jax.tree.map(lambda leaf: 1.01 * leaf, leaves)

    monkeypatch.setattr("flax_resnet.export.network.fold_batch_norm", wrong)
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(tiny_run), "--format", form, "--out", str(tmp_path / "n")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["stablehlo", "onnx", "safetensors"])
def test_rounding_to_fewer_bits_is_no_other_program(form: str, tmp_path: Path) -> None:
    network = as_function(small("cifar_resnet20", dtype="bfloat16"), fold=form != "safetensors")
    assert WRITERS[form](network, tmp_path / "n") < {"onnx": 1e-5}.get(form, 0.1)


@pytest.mark.slow
@pytest.mark.skipif("tensorflow" in sys.modules, reason="TensorFlow is here")
def test_a_saved_model_without_tensorflow_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match=r"\.\[savedmodel\]"):
        write_savedmodel(as_function(small("cifar_resnet20")), tmp_path / "saved")
