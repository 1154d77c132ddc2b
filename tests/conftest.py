"""Strict settings and fixtures for all tests: eight fake CPU devices, no broadcasting of ranks."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

# Read when jax starts its backend; subprocesses of the tests inherit them. Networks this small
# take longer to compile than to run, mostly in LLVM's optimizations: a jitted `model.init` of
# ResNet-50 takes 8 s without them and 45 s with them.
os.environ["JAX_PLATFORMS"] = "cpu"
# The same kernels on machines with and without oneDNN; tests of the choice remove this.
os.environ["FLAX_RESNET_CPU_KERNELS"] = "xla"
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        # Halves the time to compile small programs; jax 0.12 has neither the flag nor the need.
        "--xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10."),
        os.environ.get("XLA_FLAGS", ""),
    ]
)

import functools
import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import hypothesis
import jax
import numpy as np
import pytest

from tools.goldens import weight

jax.config.update("jax_numpy_rank_promotion", "raise")
# Most tests compile programs that other tests compile too. Subprocesses have no cache, because some
# are killed and would leave incomplete entries.
jax.config.update(
    "jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache" / "jax")
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

# The same examples in every run, however slow the machine.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, print_blob=True
)
hypothesis.settings.load_profile("repeatable")

GOLDENS = Path(__file__).parent / "goldens"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no process works on one while the others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Collect garbage rarely: tracing makes many objects, and hardly any is garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


@pytest.fixture(autouse=True)
def settings_are_clean() -> None:
    """Fail if a test changes the session's settings."""
    assert jax.config.jax_numpy_rank_promotion == "raise"
    assert not jax.config.jax_enable_x64


@pytest.fixture
def x64() -> Iterator[None]:
    """Compute in float64 for the length of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights that may exist beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("there is no ../shared beside this checkout")
    return folder


@pytest.fixture(scope="session")
def init() -> Any:
    """Return `init(module, *args)`: the variables of a module, jitted."""

    def run(module: nn.Module, *args: Any, seed: int = 0) -> Any:
        return jax.jit(lambda key: module.init(key, *args))(jax.random.key(seed))

    return run


@dataclass(frozen=True)
class Golden:
    """The outputs of one published model; see goldens/README.md."""

    facts: dict[str, Any]
    logits: np.ndarray
    train_logits: np.ndarray

    def state_dict(self) -> dict[str, np.ndarray]:
        """Make the weights by their rule."""
        return {key: weight(key, shape) for key, shape in self.facts["state_dict"].items()}

    def images(self) -> np.ndarray:
        """Make the input, NHWC float32."""
        images = np.random.RandomState(0).standard_normal(self.facts["input"])
        return images.astype(np.float32).transpose(0, 2, 3, 1)


@functools.cache
def load_golden(name: str) -> Golden:
    """Read `goldens/NAME.json` and `goldens/NAME.npz`."""
    facts = json.loads((GOLDENS / f"{name}.json").read_text())
    with np.load(GOLDENS / f"{name}.npz") as arrays:
        return Golden(facts, arrays["logits"], arrays["train_logits"])


@pytest.fixture(scope="session")
def golden() -> Any:
    """Return the function that loads the golden of a published name."""
    return load_golden


TINY = dict(stage_sizes=(1, 1), widths=(8, 16), stem="cifar", num_classes=10, image_size=8)


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the names of parts that a test registers."""
    from flax_resnet.data.images import transforms
    from flax_resnet.data.sources import open as opening
    from flax_resnet.models import variants
    from flax_resnet.steps.tasks import classification
    from flax_resnet.steps.updates import optimizers
    from flax_resnet.training.logging import writers

    monkeypatch.setattr(variants, "_OWN", set())
    tables: tuple[dict[str, Any], ...] = (
        variants.VARIANTS,
        variants._MODULES,
        opening.OPENERS,
        classification.LOSSES,
        optimizers.OPTIMIZERS,
        transforms.TRANSFORMS,
        writers.WRITERS,
    )
    before = [dict(table) for table in tables]
    yield
    for table, names in zip(tables, before, strict=True):
        table.clear()
        table.update(names)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of one step; tests use `tiny_run`."""
    from flax_resnet import train
    from flax_resnet.models.variants import VARIANTS
    from flax_resnet.training.parsing import parse

    data = dict(source="synthetic:10", batch_size=16, image_size=8, crop="none", flip=False)
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "tiny", TINY)
        train(parse({"steps": 1, "model": {"name": "tiny"}, "data": data}), folder)
    return folder


@pytest.fixture
def tiny_run(trained_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a run whose network `VARIANTS` calls tiny in this test."""
    from flax_resnet.models.variants import VARIANTS

    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    return trained_once


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the row `tiny`, two residual blocks with batch norm, to the table during this test."""
    from flax_resnet.models.variants import VARIANTS

    monkeypatch.setitem(VARIANTS, "tiny", TINY)


@pytest.fixture
def tiny_config(tiny_model: None) -> Callable[..., Any]:
    """Return a function that makes a config for `tiny` on synthetic data, changed by keywords."""

    def make(**changes: Any) -> Any:
        from flax_resnet.training.parsing import parse

        data = dict(
            source="synthetic:10",
            batch_size=16,
            eval_split="validation[:256]",
            eval_batch_size=64,
            image_size=8,
            channels=1,
            crop="pad_crop",
            crop_padding=1,
            flip=False,
            eval_crop=1.0,
            mean=(0.5,),
            std=(0.25,),
            workers=0,
        )
        settings: dict[str, Any] = dict(
            steps=8, log_every=1, model=dict(name="tiny"), schedule=dict(learning_rate=0.2)
        )
        for key, value in changes.items():
            section, _, name = key.partition("__")
            if name and section == "data":
                data[name] = value
            elif name:
                settings.setdefault(section, {})
                settings[section] = settings[section] | {name: value}
            else:
                settings[key] = value
        if data["crop"] != "pad_crop":
            del data["crop_padding"]
        return parse(settings | {"data": data})

    return make


@pytest.fixture
def devices() -> Callable[[int], Any]:
    """Return a function that makes a mesh of the given number of fake devices."""
    from flax_resnet.steps.mesh import data_mesh

    return lambda count: data_mesh(jax.devices()[:count])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder of images of every kind, and one file that is not an image."""
    import cv2
    from PIL import Image

    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels[..., 0]).save(folder / "b grey.PNG")
    Image.fromarray(pixels).convert("CMYK").save(folder / "c.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(folder / "deep" / "d.jpg", exif=turned)
    cv2.imwrite(str(folder / "e.webp"), np.zeros((3000, 9, 3), np.uint8))
    (folder / "f.jpg").write_bytes(b"no picture")
    return folder
