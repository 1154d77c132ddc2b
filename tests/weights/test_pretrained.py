"""Models with their weights from files and folders, and back."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import (
    InputError,
    class_names,
    create_model,
    from_torch,
    load_pretrained,
    to_torch,
)
from flax_resnet.models import variable_shapes
from flax_resnet.models.variants import VARIANTS
from flax_resnet.weights import Preprocessing, describe, save_pretrained, write_state_dict
from flax_resnet.weights.hub_config import make_config, parse_config
from flax_resnet.weights.json_fields import read_fields

SMALL = {"stage_sizes": (1, 1, 1, 1), "widths": (4, 8, 8, 8)}


def random_variables(model: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype(np.float32), variable_shapes(model)
    )


def same(first: Any, second: Any) -> bool:
    return jax.tree.structure(first) == jax.tree.structure(second) and jax.tree.all(
        jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), first, second)
    )


@pytest.fixture
def model() -> Any:
    return create_model("resnet18", num_classes=5, image_size=32, **SMALL)


@pytest.fixture
def variables(model: Any) -> Any:
    return random_variables(model)


@pytest.fixture
def file(tmp_path: Path, model: Any, variables: Any) -> Path:
    """Weights that do not name their network."""
    write_state_dict(tmp_path / "weights.safetensors", to_torch(model, variables))
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("name", ["cifar_resnet20", "mnist_resnet"])
def test_a_saved_model_comes_back_exactly(tmp_path: Path, name: str) -> None:
    model = create_model(name)
    variables = random_variables(model)
    save_pretrained(model, variables, tmp_path)
    found, found_variables = load_pretrained(tmp_path)
    assert found == model
    assert same(found_variables, variables)


def test_a_saved_files_own_record_is_enough(tmp_path: Path, model: Any, variables: Any) -> None:
    save_pretrained(model, variables, tmp_path, architecture="resnet18")
    (tmp_path / "config.json").unlink()
    for source in (str(tmp_path / "model.safetensors"), tmp_path):
        found, found_variables = load_pretrained(source)
        assert found == model
        assert same(found_variables, variables)


def test_published_weights_come_back_as_from_torch_gives_them(tmp_path: Path, golden: Any) -> None:
    state_dict = golden("cifar.resnet20").state_dict()
    write_state_dict(tmp_path / "model.safetensors", state_dict)
    model, variables = load_pretrained(tmp_path, model="cifar_resnet20")
    assert model == create_model("cifar_resnet20")
    assert same(variables, from_torch(model, state_dict))


def test_a_file_that_names_no_network_needs_model(file: Path, model: Any, variables: Any) -> None:
    with pytest.raises(InputError, match=r"the network of .* is unknown: pass model="):
        load_pretrained(file)
    found, found_variables = load_pretrained(file, model="resnet18", image_size=32, **SMALL)
    assert found == model
    assert same(found_variables, variables)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_become_float32(
    tmp_path: Path, model: Any, variables: Any, dtype: str
) -> None:
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.dtype(dtype)), variables)
    save_pretrained(model, narrow, tmp_path, architecture="resnet18")
    wide = jax.tree.map(lambda leaf: leaf.astype(np.float32), narrow)
    assert same(load_pretrained(tmp_path)[1], wide)


def test_weights_of_another_network_are_an_error(file: Path) -> None:
    with pytest.raises(InputError, match=r"unexpected: fc\.weight"):
        load_pretrained(file, model="cifar_resnet20")
    with pytest.raises(InputError, match=r"missing: layer1\.1\.conv1\.weight"):
        load_pretrained(file, model="resnet18")


def test_the_row_of_a_model_is_found(tmp_path: Path) -> None:
    model = create_model("resnet18", num_classes=2, image_size=64, dtype="bfloat16", norm_group=4)
    save_pretrained(model, random_variables(model), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("resnet18", 2)
    assert "flax_resnet" not in config
    assert load_pretrained(tmp_path)[0] == create_model("resnet18", num_classes=2, image_size=64)


@pytest.mark.slow
def test_no_two_rows_are_the_same_network() -> None:
    assert {name: make_config(create_model(name))["architecture"] for name in VARIANTS} == {
        name: name for name in VARIANTS
    }


def test_a_model_of_no_row_is_an_error_that_says_how_to_save_it(
    tmp_path: Path, model: Any, variables: Any
) -> None:
    with pytest.raises(InputError, match=r"resnet18 is closest, .*widths=\(4, 8, 8, 8\)"):
        save_pretrained(model, variables, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_preprocessing_is_written_for_timm(tmp_path: Path, model: Any, variables: Any) -> None:
    images = Preprocessing(24, 0.9, "bilinear", (0.5,) * 3, (0.25,) * 3)
    save_pretrained(model, variables, tmp_path, architecture="resnet18", preprocessing=images)
    details = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert (details["input_size"], details["crop_pct"]) == ([3, 24, 24], 0.9)
    assert (details["mean"], details["std"]) == ([0.5] * 3, [0.25] * 3)
    assert load_pretrained(tmp_path)[0] == model, "the image size is the model's own"


def test_preprocessing_for_other_channels_is_an_error(tmp_path: Path) -> None:
    model = create_model("mnist_resnet")
    with pytest.raises(InputError, match="one entry in both for each of the model's 1 channels"):
        save_pretrained(model, {}, tmp_path, preprocessing=Preprocessing())


CONFIGS = {
    "where timm writes them": {"label_names": ["cat", "dog", "owl", "rat", "yak"]},
    "by number": {"label_names": {"0": "cat", "1": "dog", "2": "owl", "3": "rat", "4": "yak"}},
    "under the old name": {"labels": ["cat", "dog", "owl", "rat", "yak"]},
    "inside": {"pretrained_cfg": {"label_names": ["cat", "dog", "owl", "rat", "yak"]}},
    "without pretrained_cfg": {"pretrained_cfg": {}, "labels": ["cat", "dog", "owl", "rat", "yak"]},
}


@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS)
def test_class_names_are_read_wherever_timm_reads_them(fields: dict[str, Any]) -> None:
    stored = {"num_classes": 5, "in_chans": 3, "global_pool": "avg"}
    config = {"architecture": "resnet18", "num_classes": 5, "model_args": stored} | fields
    found = parse_config(read_fields(json.dumps(config), "config.json"))
    assert found.class_names == ("cat", "dog", "owl", "rat", "yak")


def test_classes_without_a_name_have_their_number() -> None:
    config = {"num_classes": 4, "label_names": {"3": "yak", "1": "dog"}}
    found = parse_config(read_fields(json.dumps(config), "config.json"))
    assert found.class_names == ("0", "dog", "2", "yak")


@pytest.mark.parametrize("names", [["cat"], {"5": "cat"}])
def test_names_of_other_classes_are_not_used(names: Any) -> None:
    config = read_fields(json.dumps({"num_classes": 5, "label_names": names}), "config.json")
    with pytest.warns(UserWarning, match=r"config\.json has 1 label_names for 5 classes"):
        assert parse_config(config).class_names == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"label_names": "cat"},
        {"label_names": [1, 2]},
        {"label_names": {"one": "cat"}},
        {"label_names": {"-1": "cat"}},
        {"label_names": {"1" * 5000: "cat"}},
        {"label_descriptions": {"cat": 1}},
        {"label_descriptions": ["cat"]},
    ],
)
def test_names_that_are_no_names_are_an_error(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"config\.json has label_\w+ .*; expected an? (list|obj)"):
        parse_config(read_fields(json.dumps(fields), "config.json"))


def test_class_names_survive_saving(tmp_path: Path, model: Any, variables: Any) -> None:
    names, meaning = ("cat", "dog", "öwl", "rat", "yak"), {"cat": "a small tiger"}
    save_pretrained(
        model,
        variables,
        tmp_path,
        architecture="resnet18",
        class_names=names,
        class_descriptions=meaning,
    )
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label_names"] == list(names)
    assert config["label_descriptions"] == meaning
    assert class_names(tmp_path) == names
    (tmp_path / "config.json").unlink()
    assert class_names(tmp_path / "model.safetensors") == names
    assert describe(tmp_path).class_descriptions == meaning


def test_names_of_another_number_of_classes_are_an_error(model: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 class_names; expected one for each of .* 5 classes"):
        save_pretrained(model, {}, tmp_path, architecture="resnet18", class_names=("cat", "dog"))


def test_published_weights_have_the_names_of_imagenet() -> None:
    for source in ("resnet18.a1_in1k", "timm/resnet18.a1_in1k", "hub:timm/resnet18.a1_in1k"):
        assert class_names(source)[281] == "tabby, tabby cat"
    assert class_names("resnet50.bamboo") == ()


@pytest.mark.parametrize("source", ["./none", "a/b/c", "weights.pth", "none/model.safetensors"])
def test_a_missing_path_is_an_error(source: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{Path(source)} does not exist:")):
        load_pretrained(source)


def test_names_are_checked_before_anything_is_downloaded() -> None:
    with pytest.raises(InputError, match=r"choose one of resnet18\.a1_in1k, resnet18\.a2_in1k"):
        load_pretrained("resnet18")
    with pytest.raises(InputError, match=r"Did you mean 'resnet18\.a1_in1k'"):
        load_pretrained("resnet18.a1_in1")


def test_other_folders_are_errors_that_say_what_was_expected(tmp_path: Path, file: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no model\.safetensors: expected a folder that save_pre"
    ):
        load_pretrained(tmp_path)
    file.rename(tmp_path / "model.safetensors")
    for text, message in (
        ("{", "config.json is not JSON"),
        ("[]", "contains a list: expected a JSON object"),
        ("{}", "is unknown: pass model="),
        ('{"architecture": "vgg16"}', "the model is 'vgg16'"),
        ('{"architecture": "resnet18", "model_args": {"output_stride": 8}}', "output_stride"),
        ('{"architecture": "resnet18", "model_args": {"global_pool": "max"}}', "global_pool"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match=message):
            load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "changes", [{}, {"num_classes": 7}, {"num_classes": 0}, {"in_channels": 1}]
)
def test_timm_reads_what_is_saved(tmp_path: Path, golden: Any, changes: dict[str, int]) -> None:
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    write_state_dict(tmp_path / "a.safetensors", golden("torchvision.resnet18").state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the fresh head's
        model, variables = load_pretrained(
            tmp_path / "a.safetensors", model="resnet18", image_size=64, **changes
        )
    names = tuple(f"class {number}" for number in range(model.num_classes))
    save_pretrained(model, variables, tmp_path / "saved", class_names=names)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    assert tuple(theirs.pretrained_cfg["input_size"]) == (model.in_channels, 64, 64)
    assert tuple(theirs.pretrained_cfg["label_names"] or ()) == names
    images = np.random.default_rng(0).standard_normal((2, 64, 64, model.in_channels), np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    found = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    # and what it was adapted to is what timm makes of it
    if "in_channels" in changes:
        save_pretrained(*load_pretrained(tmp_path / "a.safetensors", model="resnet18"), tmp_path)
        adapted = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=1)
        np.testing.assert_allclose(
            adapted.conv1.weight.detach().numpy(), theirs.conv1.weight.detach().numpy(), atol=1e-6
        )


@pytest.mark.parametrize(
    "name", ["test_resnet", "resnetv2_18d", "resnest14d", "skresnet18", "densenet121"]
)
def test_torch_loads_what_is_saved_strictly(tmp_path: Path, name: str) -> None:
    timm = pytest.importorskip("timm")
    from safetensors.torch import load_file

    model = create_model(name, num_classes=5)
    variables = random_variables(model)
    save_pretrained(model, variables, tmp_path)
    theirs = timm.create_model(name, num_classes=5).eval()
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    returned = {key: value.numpy() for key, value in theirs.state_dict().items()}
    assert same(from_torch(model, returned), variables)
