"""Which kernels compute convolutions: a setting, a variable, what is installed and the devices."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from flax_resnet import InputError
from flax_resnet.onednn import c_api, choice
from flax_resnet.onednn.choice import AUTO, ONEDNN, VARIABLE, XLA, choose_kernels, cpu_kernels
from flax_resnet.steps.mesh import data_mesh

available = pytest.mark.skipif(
    choice.why_unavailable() is not None, reason=str(choice.why_unavailable())
)


@pytest.fixture
def one() -> jax.sharding.Mesh:
    """Return a mesh of a single CPU device."""
    return data_mesh(jax.devices()[:1])


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@available
def test_onednn_computes_where_it_is_installed(one: jax.sharding.Mesh) -> None:
    assert choose_kernels(one) == ONEDNN


def test_the_setting_is_stronger_than_the_context_and_that_than_the_variable(
    one: jax.sharding.Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, XLA)
    assert choose_kernels(one) == XLA
    if choice.why_unavailable() is None:
        with cpu_kernels(ONEDNN):
            assert choose_kernels(one) == ONEDNN
            assert choose_kernels(one, XLA) == XLA


def test_several_devices_use_xlas_kernels() -> None:
    mesh = data_mesh()
    assert mesh.size > 1
    assert choose_kernels(mesh) == XLA
    with pytest.raises(InputError, match=f"the mesh has {mesh.size} devices"):
        choose_kernels(mesh, ONEDNN)


def test_an_unknown_setting_is_refused(
    one: jax.sharding.Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "is 'mkl'; expected one of auto, onednn, xla"
    with pytest.raises(InputError, match=f"config.cpu_kernels {expected}"):
        choose_kernels(one, "mkl")
    monkeypatch.setenv(VARIABLE, "mkl")
    with pytest.raises(InputError, match=f"{VARIABLE} {expected}"):
        choose_kernels(one)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_api, "_PLACES", ("libdnnl-of-nobody.so.3",))
    # What is loaded already stays as it is.
    with pytest.raises(OSError, match=r"oneDNN \(libdnnl.so.3\) is not installed"):
        c_api.load.__wrapped__()


def test_where_onednn_is_missing_xlas_kernels_compute(
    one: jax.sharding.Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "why_unavailable", lambda: "it is not installed (pip install)")
    assert choose_kernels(one, AUTO) == XLA
    with pytest.raises(InputError, match=r"oneDNN cannot compute .*not installed \(pip install"):
        choose_kernels(one, ONEDNN)


@pytest.mark.slow
@available
def test_models_load_without_the_optional_packages() -> None:
    program = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "import jax, flax_resnet\n"
        "from flax_resnet.onednn.choice import why_unavailable\n"
        "print(why_unavailable())\n"
        "model = flax_resnet.create_model('cifar_resnet20')\n"
        "model.init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, 3)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(Path(choice.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "llvmlite" in done.stdout
