"""Runs that learn from a teacher, with mixed images and micro-batches."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from flax_resnet.data.sources.synthetic import SyntheticSource
from flax_resnet.errors import InputError
from flax_resnet.models.variants import VARIANTS, create_model
from flax_resnet.steps.state import init_state
from flax_resnet.training.loop import train
from flax_resnet.training.networks import load_teacher
from flax_resnet.training.nonfinite import find_cause
from flax_resnet.training.setup import Setup, prepare_run
from flax_resnet.weights import Preprocessing, save_pretrained, to_torch
from flax_resnet.weights.files import write_state_dict

Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]


@pytest.fixture(autouse=True)
def one_stage(tiny_model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a few layers, because every test compiles a network again."""
    small = dict(stage_sizes=(1,), widths=(8,))
    monkeypatch.setitem(VARIANTS, "tiny", VARIANTS["tiny"] | small)


@pytest.fixture
def teacher_run(tmp_path: Path, tiny_config: Configs, devices: Meshes) -> Path:
    """Return the folder of a run of one step with its own normalization."""
    look = dict(data__mean=(0.25,), data__std=(0.5,), data__eval_split="validation[:16]")
    return train(tiny_config(steps=1, **look), tmp_path / "teacher", mesh=devices(1)).workdir


def everything(teacher: Path) -> dict[str, Any]:
    return dict(
        steps=4,
        loss="sigmoid",
        target_threshold=0.2,
        label_smoothing=0.1,
        accumulate=2,
        mix=dict(mixup=0.2, cutmix=1.0, per="pair"),
        distill=dict(teacher=str(teacher), temperature=2.0, weight=0.5),
        model=dict(name="tiny", dropout=0.3, drop_block=0.1),
        data__eval_split="validation[:64]",
    )


@pytest.mark.slow
def test_a_stopped_run_continues_bit_for_bit(
    teacher_run: Path, tmp_path: Path, tiny_config: Configs, devices: Meshes
) -> None:
    config, mesh = tiny_config(**everything(teacher_run)), devices(1)
    whole = train(config, tmp_path / "whole", mesh=mesh)
    train(config, tmp_path / "parts", mesh=mesh, stop_after=2)
    parts = train(config, tmp_path / "parts", mesh=mesh)
    chex.assert_trees_all_equal(parts.variables, whole.variables)
    assert parts.metrics == whole.metrics


@pytest.mark.slow
def test_a_bad_batch_is_computed_again_as_it_was(
    teacher_run: Path, tiny_config: Configs, devices: Meshes
) -> None:
    setup = prepare_run(tiny_config(**everything(teacher_run)), devices(2))
    assert find_cause(setup, first_state(setup), 3).cause == "nothing"
    state = first_state(setup)
    kernel = state.variables["params"]["conv1"]["kernel"]
    state.variables["params"]["conv1"]["kernel"] = kernel * 1e38
    found = find_cause(setup, state, 3)
    assert (found.cause, found.layer, len(found.suspect)) == ("output", "bn1", 16)


def first_state(setup: Setup) -> Any:
    data = setup.config.data
    shape = (data.image_size, data.image_size, data.channels)
    return init_state(setup.model, setup.optimizer, 0, shape, setup.mesh)


def test_a_teacher_is_a_run_for_these_classes_with_its_own_normalization(
    teacher_run: Path, tiny_config: Configs, devices: Meshes
) -> None:
    setup = prepare_run(tiny_config(distill__teacher=str(teacher_run)), devices(2))
    teacher = load_teacher(setup)
    assert teacher is not None
    assert (teacher.mean, teacher.std) == ((0.25,), (0.5,))
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(teacher.variables))
    changes = {"distill__teacher": str(teacher_run), "data__source": "synthetic:7"}
    other = prepare_run(tiny_config(**changes), devices(1))
    with pytest.raises(InputError, match=r"has 7 classes and .*teacher' has 10; expected the same"):
        load_teacher(other)


@pytest.mark.parametrize(("size", "pixels"), [("test", 16), ("train", 8), ("student", None)])
def test_a_teachers_images_have_its_test_size(
    size: str, pixels: int | None, tiny_config: Configs, tmp_path: Path, devices: Meshes
) -> None:
    model = create_model("tiny", in_channels=1)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    images = (Preprocessing(side, mean=(0.5,), std=(0.25,)) for side in (8, 16))
    save_pretrained(
        model,
        variables,
        tmp_path,
        architecture="tiny",
        preprocessing=next(images),
        test_preprocessing=next(images),
    )
    config = tiny_config(distill=dict(teacher=str(tmp_path), size=size))
    teacher = load_teacher(prepare_run(config, devices(1)))
    assert teacher is not None
    assert teacher.image_size == pixels


def test_a_teacher_of_more_classes_teaches_those_of_the_data_by_name(
    teacher_run: Path, tiny_config: Configs, devices: Meshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(distill__teacher=str(teacher_run), data__source="synthetic:3")
    setup = prepare_run(config, devices(1))
    source = dataclasses.replace(setup.train_source, named=True)
    setup = dataclasses.replace(setup, train_source=source)
    monkeypatch.setattr(SyntheticSource, "class_names", ("pattern 4", "pattern 0", "pattern 9"))
    teacher = load_teacher(setup)
    assert teacher is not None and teacher.outputs == (4, 0, 9)
    images = jnp.zeros((2, 8, 8, 1))
    look = dict(mean=teacher.mean, std=teacher.std)
    logits = teacher.logits(teacher.variables, images, **look)
    whole = dataclasses.replace(teacher, outputs=None)
    np.testing.assert_array_equal(
        logits, whole.logits(teacher.variables, images, **look)[:, [4, 0, 9]]
    )


def test_a_file_names_neither_network_nor_normalization(
    tmp_path: Path, tiny_config: Configs, devices: Meshes
) -> None:
    model = create_model("tiny", in_channels=1)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    path = tmp_path / "teacher.safetensors"
    write_state_dict(path, to_torch(model, variables), {})

    def load(**distill: str) -> Any:
        config = tiny_config(distill=dict(teacher=str(path), **distill), model__dtype="bfloat16")
        return load_teacher(prepare_run(config, devices(1)))

    teacher = load(model="tiny")
    assert (teacher.mean, teacher.std, teacher.image_size) == ((0.5,), (0.25,), None)
    assert teacher.model.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        teacher.variables["params"]["fc"]["kernel"], variables["params"]["fc"]["kernel"]
    )
    with pytest.raises(InputError, match="is unknown: pass model="):
        load()


def test_without_a_teacher_there_is_none(tiny_config: Configs, devices: Meshes) -> None:
    assert load_teacher(prepare_run(tiny_config(), devices(1))) is None
