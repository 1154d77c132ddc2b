"""The names that `import flax_resnet` provides, and the modules that it does not load."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import flax_resnet

HEAVY = {
    "array_record",
    "cv2",
    "grain",
    "httpx2",
    "huggingface_hub",
    "ml_collections",
    "optax",
    "PIL",
    "orbax",
    "rich",
    "safetensors",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "torch",
}


def modules_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}; import sys, json; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    return {name.partition(".")[0] for name in json.loads(output)}


@pytest.fixture(scope="module")
def flaxs_own() -> set[str]:
    return modules_after("import flax.linen")


def test_importing_the_package_and_a_listing_load_neither_jax_nor_data_stack() -> None:
    listing = "from flax_resnet.__main__ import main; main(['--quiet', 'models'])"
    found = modules_after(f"import flax_resnet; {listing}")
    assert "flax_resnet" in found
    assert found & ((HEAVY - {"rich"}) | {"flax", "jax", "numpy"}) == set()


def test_models_need_nothing_but_jax_flax_and_numpy(flaxs_own: set[str]) -> None:
    found = modules_after("import flax_resnet.models") - flaxs_own
    assert found - set(sys.stdlib_module_names) <= {"flax_resnet", "jaxtyping", "wadler_lindig"}


@pytest.mark.parametrize("name", flax_resnet.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(flax_resnet, name) is not None


def test_dir_lists_public_names_and_subpackages() -> None:
    assert {*flax_resnet.__all__, "models", "weights", "__version__"} <= set(dir(flax_resnet))
    assert flax_resnet.models.create_model is flax_resnet.create_model


def test_dir_lists_nothing_else() -> None:
    shown = {name for name in dir(flax_resnet) if not name.startswith("__")}
    assert shown == {*flax_resnet.__all__, "models", "weights"}


def test_lazy_names_are_those_of_the_training_package() -> None:
    from flax_resnet.training import loop, runs

    assert flax_resnet.train is loop.train
    assert flax_resnet.restore is runs.restore


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'flax_resnet' has no attribute 'resnet50'"):
        _ = flax_resnet.resnet50


def test_input_errors_are_value_errors() -> None:
    assert issubclass(flax_resnet.InputError, ValueError)


def test_the_version_is_a_release() -> None:
    assert flax_resnet.__version__.count(".") == 2
