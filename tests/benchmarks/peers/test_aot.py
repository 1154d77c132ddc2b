"""The comparison of compiled programs: its cases, its peer, and what it says without a compiler."""

import jax
import jax.numpy as jnp
import pytest

import flax_resnet
from benchmarks import targets
from benchmarks.peers import aot, linen_resnet
from flax_resnet.errors import InputError
from flax_resnet.models import count_parameters


def test_without_a_compiler_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(targets, "is_installed", lambda module: False)
    assert aot.main(["--target", "v5e"]) == 2
    assert capsys.readouterr().err == (
        "error: no compiler for v5e is installed: pip install '.[aot-tpu]' (no device is needed)\n"
    )


def test_a_module_in_a_package_that_is_missing_is_not_installed():
    assert targets.is_installed("jax.numpy")
    assert not targets.is_installed("no_such_package.module")


@pytest.mark.parametrize(
    ("count", "axes", "sides"),
    [(1, 2, (2, 2)), (4, 2, (2, 2)), (8, 2, (2, 4)), (256, 2, (16, 16)), (4, 3, (2, 2, 1))],
)
def test_chips_form_the_smallest_grid(count, axes, sides):
    assert targets.chips(count, axes) == sides


def test_a_number_of_chips_that_is_no_power_of_two_is_refused():
    with pytest.raises(InputError, match="--devices is 6; expected a power of two"):
        targets.chips(6, 2)


def test_the_batch_is_each_devices_and_suites_have_a_peer():
    parser = aot._parser()
    ((case, peer),) = aot.chosen_cases(parser.parse_args(["--devices", "8", "--batch", "32"]))
    assert (case.batch_size, case.target, peer) == (256, "h100", None)
    cases = list(aot.chosen_cases(parser.parse_args(["--suite", "tpu"])))
    assert {case.target for case, _ in cases} == {"v5e"}
    assert {peer for _, peer in cases} == {"linen"}


@pytest.mark.parametrize("name", ["resnet50", "resnet18", "cifar_resnet20", "resnext50_32x4d"])
def test_the_linen_twin_has_our_parameters(name):
    model = flax_resnet.create_model(name, dtype="bfloat16")
    twin = linen_resnet.linen_twin(model)
    images = jnp.zeros((1, model.image_size, model.image_size, 3))
    shapes = jax.eval_shape(lambda key: twin.init(key, images, train=False), jax.random.key(0))
    leaves = jax.tree.leaves(shapes["params"])
    assert sum(leaf.size for leaf in leaves) == count_parameters(model)


@pytest.mark.parametrize(("name", "part"), [("resnet50d", "stem"), ("densenet121", "DenseNet")])
def test_a_network_with_other_parts_has_no_twin(name, part):
    with pytest.raises(InputError, match=part):
        linen_resnet.linen_twin(flax_resnet.create_model(name))


def test_bounds_are_bytes_at_the_bandwidth_and_products_at_the_peak():
    found = targets.bound("h100", 3.35e12, 989e12 / 2, "bfloat16")
    assert found == {"memory_s": 1.0, "products_s": 0.5}
    assert targets.bound("v5e", 1, 1, "float32")["products_s"] is None
