"""The variables of a network: parts, parts with frozen norms, and the two layouts."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flax_resnet import DenseNet, ResNet, create_model, from_torch, to_layout, to_torch
from flax_resnet.models import variable_shapes
from flax_resnet.models.variables import part_of, selected


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("conv1", "stem"),
        ("conv1.0", "stem"),
        ("bn1", "stem"),
        ("maxpool.0", "stem"),
        ("stem.conv1", "stem"),
        ("features.conv0", "stem"),
        ("features.norm2", "stem"),
        ("layer1.0.conv1", "layer1"),
        ("layer12", "layer12"),
        ("layer1.0.downsample.1", "layer1"),
        ("stages.0.blocks.1.conv1", "layer1"),
        ("stages.3", "layer4"),
        ("features.denseblock2.denselayer1.norm1", "layer2"),
        ("features.transition2.conv", "layer2"),
        ("enc1.0", "layer1"),
        ("bottleneck.1", "bottleneck"),
        ("up4", "decoder4"),
        ("dec4.3", "decoder4"),
        ("out", "head"),
        ("fc", "head"),
        ("linear", "head"),
        ("classifier", "head"),
        ("head.fc", "head"),
        ("norm", "head"),
        ("features.norm5", "head"),
        ("conv10", "head"),
        ("", "head"),
    ],
)
def test_a_key_belongs_to_a_part(key: str, part: str) -> None:
    assert part_of(key.split(".")) == part


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_18d", "densenet121", "cifar_densenet40_12"])
def test_every_family_has_the_same_parts(name: str) -> None:
    model = create_model(name, stage_sizes=(1,) * len(create_model(name).stage_sizes))
    parts = {part_of(path) for path in traverse_util.flatten_dict(variable_shapes(model)["params"])}
    stages = {f"layer{number}" for number in range(1, len(model.stage_sizes) + 1)}
    assert parts == {"stem", "head"} | stages


@pytest.mark.parametrize(
    ("pattern", "keys", "others"),
    [
        ("", [], ["conv1", "layer1.0.bn1", "fc"]),
        ("stem", ["conv1", "bn1", "stem.conv", "features.norm0"], ["layer1.0.conv1", "norm"]),
        ("layer1", ["layer1.0.bn1", "stages.0.blocks.1.norm1"], ["layer2.0.bn1", "layer11.0"]),
        ("stem|layer[12]", ["bn1", "layer1.0", "layer2.3.bn2"], ["layer3.0.bn1", "fc"]),
        ("layer3.0", ["layer3.0.bn1"], ["layer3.1.bn1", "layer3", "stages.2.blocks.0"]),
        (r".*\.bn1", ["layer1.0.bn1", "layer4.1.bn1"], ["bn1", "layer1.0.bn2", "layer1.0.bn10"]),
        (".*", ["conv1", "layer1.0.bn1", "fc"], []),
        ("stem|.*", ["conv1", "layer1.0.bn1", "fc"], []),
        ("head", ["fc", "norm", "features.norm5"], ["layer4.1"]),
        ("lay", [], ["layer1.0.bn1"]),
    ],
)
def test_a_pattern_selects_by_part_or_by_the_keys_start(
    pattern: str, keys: list[str], others: list[str]
) -> None:
    for key in keys:
        assert selected(pattern, key.split(".")), key
    for key in others:
        assert not selected(pattern, key.split(".")), key


COMMON = dict(image_size=8, num_classes=3, dtype=jnp.float64)
NETWORKS = {
    "post": ResNet((1, 1), (4, 8), **COMMON),
    "pre": ResNet((1, 1), (4, 8), order="pre", **COMMON),
    "dense": DenseNet((1, 1), 4, bottleneck=1, **COMMON),
}


def example(model: Any) -> tuple[Any, jax.Array]:
    """Return variables, none of them zero, and images."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape), variable_shapes(model))
    return variables, jnp.asarray(rng.standard_normal((4, 16, 16, 3)))


def train(model: Any) -> tuple[jax.Array, Any, Any]:
    """Return logits, old and new running statistics of a training step, by path."""
    variables, images = example(model)
    logits, new = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))(
        variables
    )
    flat = traverse_util.flatten_dict
    return logits, flat(variables["batch_stats"]), flat(new["batch_stats"])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["pre", "dense"])
def test_statistics_of_frozen_parts_stay_and_others_change(name: str) -> None:
    _, old, new = train(NETWORKS[name].clone(frozen="stem|layer1"))
    assert old.keys() == new.keys()
    for path, statistic in old.items():
        stays = np.array_equal(new[path], statistic)
        assert stays == (part_of(path) in ("stem", "layer1")), path
    assert {part_of(path) for path in old} >= {"layer1", "layer2"}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["post", pytest.param("dense", marks=pytest.mark.slow)])
def test_a_frozen_network_returns_the_same_in_training_and_inference(name: str) -> None:
    model = NETWORKS[name].clone(frozen=".*")
    logits, old, new = train(model)
    assert all(np.array_equal(new[path], old[path]) for path in old)
    variables, images = example(model)
    inferred = jax.jit(NETWORKS[name].apply)(variables, images)
    np.testing.assert_allclose(logits, inferred, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_frozen_norms_use_running_statistics_and_others_those_of_the_batch() -> None:
    """The inputs of the head are normalized by the last norm only."""
    model = ResNet((1,), (4,), order="pre", image_size=8, num_classes=0, dtype=jnp.float64)
    variables, images = example(model)

    def run(frozen: str) -> tuple[np.ndarray, np.ndarray]:
        apply = functools.partial(
            model.clone(frozen=frozen).apply, train=True, mutable=["batch_stats"]
        )
        maps, _ = jax.jit(functools.partial(apply, method="features"))(variables, images)
        pooled, _ = jax.jit(apply)(variables, images)
        return np.asarray(maps["layer1"]), np.asarray(pooled)

    norm, statistics = variables["params"]["norm"], variables["batch_stats"]["norm"]

    def normalized(maps: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
        y = (maps - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
        return np.maximum(y, 0).mean((1, 2))

    maps, pooled = run("head")
    expected = normalized(maps, statistics["mean"], statistics["var"])
    np.testing.assert_allclose(pooled, expected, rtol=1e-11)
    maps, pooled = run("stem|layer.*")
    expected = normalized(maps, maps.mean((0, 1, 2)), maps.var((0, 1, 2)))
    np.testing.assert_allclose(pooled, expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_freezing_changes_no_variable() -> None:
    for model in NETWORKS.values():
        assert variable_shapes(model.clone(frozen="stem")) == variable_shapes(model)


@pytest.mark.usefixtures("x64")
def test_gradients_pass_through_frozen_norms() -> None:
    model = NETWORKS["post"].clone(frozen=".*")
    variables, images = example(model)

    def loss(params: Any) -> jax.Array:
        return (model.apply({**variables, "params": params}, images, train=True) ** 2).mean()

    for path, leaf in traverse_util.flatten_dict(
        jax.jit(jax.grad(loss))(variables["params"])
    ).items():
        assert np.asarray(leaf).any(), path


PLAIN = ResNet((3, 2), (4, 8), stem="cifar", num_classes=5, image_size=8)
LAYOUTS = {
    "basic": PLAIN,
    "pre": PLAIN.clone(
        order="pre", head_name="head.fc", gate="eca", norm="frn", stage_sizes=(3,), widths=(4,)
    ),
    "bottleneck": PLAIN.clone(
        block="bottleneck", middle="split_attention", stage_sizes=(3,), widths=(4,)
    ),
}
every_layout = pytest.mark.parametrize("model", LAYOUTS.values(), ids=LAYOUTS)


shapes_of = functools.cache(variable_shapes)


def random_variables(model: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), shapes_of(model)
    )


def same(first: Any, second: Any) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, first, second))


@every_layout
def test_unrolled_variables_survive_the_scanned_layout(model: Any) -> None:
    variables = random_variables(model)
    stacked = to_layout(model.clone(scan_blocks=True), variables)
    assert not same(jax.tree.structure(stacked), jax.tree.structure(variables))
    assert same(to_layout(model, stacked), variables)


@every_layout
def test_scanned_variables_survive_the_unrolled_layout(model: Any) -> None:
    scanned = model.clone(scan_blocks=True)
    variables = random_variables(scanned)
    assert same(to_layout(scanned, to_layout(model, variables)), variables)


@every_layout
def test_each_layout_has_the_variables_that_its_model_expects(model: Any) -> None:
    scanned = model.clone(scan_blocks=True)

    def shapes(variables: Any) -> Any:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)

    assert shapes(to_layout(scanned, random_variables(model))) == shapes(shapes_of(scanned))
    assert shapes(to_layout(model, random_variables(scanned))) == shapes(shapes_of(model))


@every_layout
def test_variables_in_their_own_layout_are_unchanged(model: Any) -> None:
    for each in (model, model.clone(scan_blocks=True)):
        variables = random_variables(each)
        assert same(to_layout(each, variables), variables)


def test_block_k_is_entry_k_minus_1_of_the_scan() -> None:
    variables = random_variables(PLAIN)
    stacked = to_layout(PLAIN.clone(scan_blocks=True), variables)
    for number in (1, 2):
        np.testing.assert_array_equal(
            stacked["batch_stats"]["layer1"]["scan"]["bn2"]["var"][number - 1],
            variables["batch_stats"]["layer1"][str(number)]["bn2"]["var"],
        )


@every_layout
def test_a_torch_state_dict_is_the_same_from_both_layouts(model: Any) -> None:
    scanned = model.clone(scan_blocks=True)
    variables = random_variables(model)
    state_dict = to_torch(model, variables)
    stacked = from_torch(scanned, state_dict)
    assert same(stacked, to_layout(scanned, variables))
    assert same(to_torch(scanned, stacked), state_dict)
    assert same(to_torch(model, stacked), state_dict)


@pytest.mark.parametrize("scan", [False, True])
def test_leaves_that_do_not_belong_to_the_model_are_unchanged(scan: bool) -> None:
    model = PLAIN.clone(scan_blocks=scan)
    variables = random_variables(PLAIN)
    variables["params"]["layer1"]["1"]["extra"] = np.ones(3)
    variables["ema"] = {"decay": np.float32(0.9)}
    found = to_layout(model, variables)
    assert found["ema"]["decay"] == variables["ema"]["decay"]
    np.testing.assert_array_equal(found["params"]["layer1"]["1"]["extra"], np.ones(3))


def test_a_collection_can_be_missing() -> None:
    gradients = {"params": random_variables(PLAIN)["params"]}
    scanned = PLAIN.clone(scan_blocks=True)
    stacked = to_layout(scanned, gradients)
    assert set(stacked) == {"params"}
    assert same(to_layout(PLAIN, stacked), gradients)


def test_arrays_stay_on_host_or_device() -> None:
    scanned = PLAIN.clone(scan_blocks=True)
    variables = random_variables(PLAIN)

    def kinds(variables: Any) -> set[type]:
        return {type(leaf) for leaf in jax.tree.leaves(variables)}

    assert kinds(to_layout(scanned, variables)) == {np.ndarray}
    on_device = jax.tree.map(jnp.asarray, variables)
    assert kinds(to_layout(scanned, on_device)) == kinds(on_device)


def test_variables_are_converted_under_jit() -> None:
    scanned = PLAIN.clone(scan_blocks=True)
    variables = random_variables(PLAIN)
    moved = jax.jit(lambda variables: to_layout(PLAIN, to_layout(scanned, variables)))(variables)
    assert same(moved, variables)


def test_a_dense_network_has_one_layout() -> None:
    model = create_model("cifar_densenet_bc100_12", stage_sizes=(1, 1, 1))
    variables = random_variables(model)
    assert same(to_layout(model, variables), variables)
