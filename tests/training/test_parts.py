"""User-defined parts: given to `train`, or known to the settings by a name."""

import json
import threading
from pathlib import Path
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flax_resnet
from flax_resnet import InputError, evaluate_run, restore, train
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.steps.tasks import classification
from flax_resnet.training.parsing import parse
from flax_resnet.training.parts import Parts
from flax_resnet.training.setup import prepare_run


class Net(nn.Module):
    num_classes: int
    width: int = 4

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Conv(self.width, (3, 3))(images)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(self.num_classes)(nn.relu(x).mean((1, 2)))


class Squares:
    """Gray squares as bright as their class."""

    class_names = ("dark", "medium", "bright")

    def __init__(self, count: int = 60, start: int = 0) -> None:
        self.count, self.start = count, start

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.int64]:
        at = index + self.start
        return np.full((8, 8), 80 * (at % 3) + at % 7, np.uint8), np.int64(at % 3)


SPLITS = {"train": Squares(), "validation": Squares(30, 60)}


def hinge(logits: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    return optax.losses.multiclass_hinge_loss(logits, batch["label"])


def cross_entropy(logits: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["label"])


def darker(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image // 2 + rng.integers(0, 9, dtype=np.uint8)


def settings(**changes: Any) -> dict[str, Any]:
    data = dict(
        batch_size=16,
        image_size=8,
        channels=1,
        crop="none",
        flip=False,
        eval_crop=1.0,
        mean=(0.5,),
        std=(0.25,),
        workers=0,
    ) | changes.pop("data", {})
    return dict(steps=6, log_every=1, eval_every_epochs=0.5, data=data) | changes


def everything(**changes: Any) -> dict[str, Any]:
    parts = dict(
        source=SPLITS, model=Net(3), loss=hinge, optimizer=optax.adam(3e-3), transform=darker
    )
    return parts | changes


def test_a_run_of_own_parts_resumes_bit_for_bit_and_refuses_others(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    whole = train(settings(), tmp_path / "whole", **everything(writer=rows.append))
    assert whole.class_names == Squares.class_names
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert not any("learning_rate" in row for row in rows)

    folder = tmp_path / "stopped"
    train(settings(), folder, stop_after=3, **everything())
    same = everything(model=Net(3), optimizer=optax.adam(3e-3))
    for changed, message in (
        ({"model": Net(3, width=5)}, r"model: .*Net \w+ before, .*Net \w+ now"),
        ({"optimizer": optax.adam(1e-2)}, r"optimizer: .* before"),
        ({"optimizer": None}, r"optimizer: .* before, none now"),
        ({"loss": cross_entropy}, r"loss: .*hinge \w+ before, .*cross_entropy \w+ now"),
        ({"transform": None}, r"transform: .*darker \w+ before, none now"),
        ({"source": SPLITS | {"train": Squares(60, 1)}}, r"\n  source: own:Squares"),
        ({"source": SPLITS | {"validation": Squares(29, 60)}}, "evaluation source: own:Squares"),
    ):
        with pytest.raises(InputError, match=message) as refused:
            train(settings(), folder, **(same | changed))
        assert "--allow_config_change" in str(refused.value)
    resumed = train(settings(), folder, **same)
    chex.assert_trees_all_equal(resumed.variables, whole.variables)

    with pytest.raises(InputError, match=r"was given to train\(model=.*Pass it as model= here"):
        restore(folder)
    run = restore(folder, "latest", model=Net(3))
    chex.assert_trees_all_equal(run.variables, whole.variables)
    with pytest.raises(InputError, match=r"were given to train\(source=.*Pass them as source="):
        evaluate_run(run)
    found = evaluate_run(run, source=SPLITS, split="validation")
    assert (found["count"], found["top1"]) == (30, whole.metrics["top1"])


class Logger:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, row: dict[str, Any]) -> None:
        with (self.folder / "own.txt").open("a") as file:
            file.write(f"{row['kind']} {row['step']}\n")

    def close(self) -> None:
        (self.folder / "closed").touch()


def test_registered_parts_are_known_to_the_settings_by_name(
    tmp_path: Path, registries: None
) -> None:
    flax_resnet.register_model("net", Net, width=3)
    flax_resnet.register_source("squares", lambda rest, split: Squares(int(rest)))
    flax_resnet.register_loss("hinge", hinge)
    flax_resnet.register_optimizer("mine", lambda config, rate, mask: optax.sgd(rate))
    flax_resnet.register_transform("darker", darker)
    flax_resnet.register_writer("mine", lambda workdir, config: Logger(workdir))
    parts_of_one = {"train_split": "train[:40]", "eval_split": "train[40:]"}
    config = settings(
        steps=2,
        loss="hinge",
        model={"name": "net", "width": 5},
        optimizer={"name": "mine"},
        logging={"writer": "mine"},
        data={"source": "squares:50", "transform": "darker", **parts_of_one},
    )
    run = train(config, tmp_path)
    assert run.model == Net(3, width=5)
    lines = (tmp_path / "own.txt").read_text().split("\n")
    assert lines == ["train 1", "train 2", "eval 2", ""]
    assert (tmp_path / "closed").exists()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["learning_rate"] == pytest.approx(0.1)
    assert restore(tmp_path).model == Net(3, width=5)
    assert evaluate_run(tmp_path)["count"] == 10
    assert "net" in flax_resnet.list_models()
    with pytest.raises(InputError, match=r"Net has no method features\(images\)"):
        open_predictor(tmp_path).features(np.zeros((1, 8, 8, 1), np.uint8))
    with pytest.raises(InputError, match="the format of the hub needs one of this package"):
        flax_resnet.save_pretrained(run.model, run.variables, tmp_path / "hub")
    del classification.LOSSES["hinge"]
    with pytest.raises(InputError, match=r"own \(model .*Net, loss .*hinge, .* --import MODULE"):
        restore(tmp_path)
    flax_resnet.register_loss("hinge", cross_entropy)
    with pytest.raises(InputError, match=r"loss: .*hinge \w+ before, .*cross_entropy \w+ now"):
        train(config | {"steps": 4}, tmp_path)


@pytest.mark.parametrize(
    ("register", "name", "part"),
    [
        ("register_model", "resnet50", Net),
        ("register_source", "folder", Squares),
        ("register_loss", "softmax", hinge),
        ("register_optimizer", "sgd", optax.sgd),
    ],
)
def test_names_of_this_package_cannot_be_taken(register: str, name: str, part: Any) -> None:
    with pytest.raises(InputError, match=f"called '{name}', which is a name of this package"):
        getattr(flax_resnet, register)(name, part)
    with pytest.raises(InputError, match="called 'my:part'; expected letters"):
        getattr(flax_resnet, register)("my:part", part)


@pytest.mark.parametrize(
    ("module", "message"),
    [(Net(3), "expected a class of Linen modules"), (nn.BatchNorm, "has no field num_classes")],
    ids=["object", "layer"],
)
def test_only_classes_of_networks_are_registered(module: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        flax_resnet.register_model("mine", module)


class NoTrain(nn.Module):
    num_classes: int = 3

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        return nn.Dense(self.num_classes)(images.mean((1, 2)))


class Cached(Net):
    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        self.variable("cache", "count", lambda: jnp.zeros(()))
        return nn.Dense(self.num_classes)(images.mean((1, 2)))


class Maps(Net):
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        return images


class Opened(Squares):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Nothing(Squares):
    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("parts", "changes", "message"),
    [
        ({"model": NoTrain()}, {}, r"NoTrain cannot be called as network\(images, train=True\)"),
        ({"model": Cached(3)}, {}, "has the collections cache; expected only params and batch"),
        ({"model": Maps(3)}, {}, r"returns float32 \(1, 8, 8, 1\) .*expected logits \(1, 3\)"),
        ({"model": Net(2)}, {}, "has 3 classes, the model 2 outputs"),
        ({"model": Net}, {}, "expected a Linen module, such as"),
        ({"model": nn.Dense(3)}, {}, "Dense has no number num_classes"),
        ({}, {"model": {"dtype": "bfloat16"}}, r"config\.model is .*but model= replaces it"),
        ({"model": None}, {"model": {"name": "nett"}}, "the model is 'nett'"),
        ({}, {"loss": "sigmoid"}, r"config\.loss is 'sigmoid', but loss= replaces it"),
        ({}, {"label_smoothing": 0.1}, r"config\.label_smoothing is 0\.1, but loss= replaces"),
        ({}, {"schedule": {"learning_rate": 1.0}}, r"config\.schedule is .*optimizer= replaces it"),
        ({}, {"optimizer": {"name": "adamw"}}, r"config\.optimizer is .*but optimizer= replaces"),
        ({"optimizer": "adam"}, {}, "expected an optax transformation, or a function"),
        ({"optimizer": lambda rate: rate}, {}, r"optimizer returns .*; expected an optax"),
        ({"loss": "hinge"}, {}, "loss is 'hinge'; expected a function"),
        ({}, {"data": {"source": "synthetic:3"}}, r"data\.source is 'synthetic:3', but source="),
        ({"source": Squares()}, {}, r"no split 'validation'.*data.train_split='train\[:90%\]'"),
        ({"source": {"train": 7, "validation": 7}}, {}, "expected an object with len and"),
        ({"source": {"train": Nothing()}}, {}, "own:Nothing"),
        (
            {"source": [(np.zeros((8, 8), np.uint8), 0)]},
            {"data": {"eval_split": "train"}},
            "own:list does not say its classes; expected an attribute class_names",
        ),
        (
            {"source": SPLITS | {"train": Opened()}},
            {"data": {"workers": 2}},
            "source cannot be sent .*workers=0",
        ),
        ({}, {"class_weights": "balanced"}, r"config\.class_weights is 'balanced', but loss= rep"),
        ({}, {"logging": {"writer": "tabel"}}, "logging.writer is 'tabel', which register_writer"),
        ({"transform": darker}, {"data": {"on_device": True}}, "expected .*on_device=False"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_parts_that_cannot_be_used_are_errors(
    parts: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare_run(parse(settings(**changes)), parts=Parts(**everything(**parts)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": lambda logits, batch: logits}, r"the loss is float32 .*expected one number, or"),
        ({"transform": lambda image, rng: image[1:]}, r"the transform returns uint8 \(7, 8, 1\)"),
        ({"transform": lambda image, rng: image / 2}, "the transform returns float64"),
    ],
    ids=["loss", "shape", "dtype"],
)
def test_functions_that_return_something_else_are_errors(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(settings(steps=1), tmp_path, **everything(**changes))
