"""Mixup and cutmix against plain numpy, their draws by distribution, and on several devices."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from flax_resnet.data.positions import position_of_row
from flax_resnet.errors import InputError
from flax_resnet.steps.mesh import put_batch
from flax_resnet.steps.mixing import Draws, MixConfig, draw, mix, partners
from flax_resnet.training.checks import check_pairs

Meshes = Callable[[int], Mesh]
COUNT, HEIGHT, WIDTH = 4096, 20, 30
BOTH = MixConfig(mixup=0.4, cutmix=1.0, per="element")


@functools.cache
def drawn(config: MixConfig, count: int = COUNT, seed: int = 0) -> Draws:
    make = jax.jit(draw, static_argnums=(1, 2, 3, 4))
    return jax.device_get(make(jax.random.key(seed), config, count, HEIGHT, WIDTH))


def reference(images: np.ndarray, draws: Draws) -> np.ndarray:
    """Mix image by image in float64, as described in the papers."""
    mixed = images.astype(np.float64)
    for row in range(len(images)):
        block, within = divmod(row, 16)
        other = images[16 * block + (within + 8) % 16].astype(np.float64)
        top, bottom, left, right = draws.box[:, row]
        if draws.cuts[row]:
            mixed[row, top:bottom, left:right] = other[top:bottom, left:right]
        else:
            share = np.float64(draws.share[row])
            mixed[row] = share * mixed[row] + (1 - share) * other
    return mixed


@pytest.mark.parametrize("per", ["batch", "pair", "element"])
def test_mixed_images_equal_those_of_the_papers(per: str) -> None:
    config = MixConfig(mixup=0.4, cutmix=1.0, per=per)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((32, HEIGHT, WIDTH, 3)).astype(np.float32)
    labels = np.arange(32, dtype=np.int32)
    rows, seen = {"image": images, "label": labels, "other": labels}, set()
    step = jax.jit(lambda key: (mix(rows, key, config), draw(key, config, 32, HEIGHT, WIDTH)))
    for seed in range(4):
        batch, draws = jax.device_get(step(jax.random.key(seed)))
        np.testing.assert_allclose(batch["image"], reference(images, draws), atol=1e-6)
        np.testing.assert_array_equal(batch["label"], labels)
        np.testing.assert_array_equal(batch["partner"], labels // 16 * 16 + (labels + 8) % 16)
        np.testing.assert_array_equal(batch["share"], draws.share)
        np.testing.assert_array_equal(batch["other"], labels)
        seen |= set(draws.cuts.tolist())
    assert seen == {False, True}


@pytest.mark.parametrize("count", [2, 6, 8, 12, 16, 40, 48])
def test_partners_are_mutual_and_near(count: int) -> None:
    rows = np.arange(count)
    found = np.asarray(partners(rows))
    np.testing.assert_array_equal(found[found], rows)
    apart = {2: 1, 6: 1, 8: 4, 12: 2, 16: 8, 40: 4, 48: 8}[count]
    assert set(abs(found - rows)) == {apart}


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0])
def test_shares_of_mixup_have_the_beta_distribution(alpha: float) -> None:
    draws = drawn(MixConfig(mixup=alpha, per="element"))
    assert not draws.cuts.any()
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(draws.share.mean() - 0.5) < 4 * np.sqrt(variance / COUNT)
    assert draws.share.var() == pytest.approx(variance, rel=0.06)
    if alpha == 1:
        empirical = np.sort(draws.share)
        assert abs(empirical - np.linspace(0, 1, COUNT)).max() < 1.63 / np.sqrt(COUNT)


def test_the_share_of_cutmix_is_that_of_the_clipped_box() -> None:
    draws = drawn(MixConfig(cutmix=1.0, per="element"))
    top, bottom, left, right = draws.box
    assert draws.cuts.all()
    assert (top >= 0).all() and (left >= 0).all() and (bottom <= HEIGHT).all()
    assert (top <= bottom).all() and (left <= right).all() and (right <= WIDTH).all()
    area = (bottom - top) * (right - left) / (HEIGHT * WIDTH)
    np.testing.assert_allclose(draws.share, 1 - area, atol=1e-6)
    # Before clipping, the area of a box is uniform, and its sides s are the root. Around a uniform
    # center, s - s^2 / 4 of a side is inside on average.
    areas = np.linspace(0, 1, 100_001)
    expected = ((np.sqrt(areas) - areas / 4) ** 2).mean()
    assert area.mean() == pytest.approx(expected, abs=0.03)  # whole pixels: a little less


def test_switching_and_mixing_have_their_frequencies() -> None:
    config = MixConfig(0.4, 1.0, cutmix_frequency=0.3, frequency=0.6, per="element")
    draws = drawn(config)
    bound = 4 * np.sqrt(0.25 / COUNT)
    assert abs(draws.cuts.mean() - 0.3) < bound
    # A cutmix box can be empty, and a share of mixup can round to 1, although the image is mixed.
    left_out = draws.share == 1
    assert 0.4 - bound < left_out.mean() < 0.4 + 2 * bound
    assert abs(draws.cuts[left_out].mean() - 0.3) < 3 * bound


def test_a_batch_or_a_pair_shares_its_draws() -> None:
    def distinct(per: str) -> int:
        draws = drawn(MixConfig(0.4, 1.0, per=per), 64)
        return len({(*box, share) for box, share in zip(draws.box.T, draws.share, strict=True)})

    assert (distinct("batch"), distinct("pair"), distinct("element")) == (1, 32, 64)
    pairs = drawn(MixConfig(0.4, 1.0, per="pair"), 64)
    for leaf in (pairs.share, pairs.cuts, pairs.box.T):
        np.testing.assert_array_equal(np.asarray(partners(leaf)), leaf)


@pytest.mark.slow
def test_draws_of_whole_batches_have_the_same_distribution() -> None:
    config = MixConfig(0.4, 1.0, frequency=0.8)
    keys = jax.random.split(jax.random.key(0), COUNT)
    make = jax.jit(jax.vmap(lambda key: draw(key, config, 2, HEIGHT, WIDTH)))
    draws = jax.device_get(make(keys))
    bound = 4 * np.sqrt(0.25 / COUNT)
    assert abs(draws.cuts.mean() - 0.5) < bound
    shares = draws.share[~draws.cuts[:, 0], 0]
    # 0.8 of Beta(0.4, 0.4), and ones.
    assert shares.mean() == pytest.approx(0.6, abs=0.03)
    assert (shares**2).mean() == pytest.approx(0.8 * (0.25 + 1 / 7.2) + 0.2, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("per", ["pair", "element"])
def test_mixing_does_not_depend_on_the_number_of_devices(devices: Meshes, per: str) -> None:
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.standard_normal((48, 8, 8, 1)).astype(np.float32),
        "label": np.arange(48, dtype=np.int32),
    }
    step = jax.jit(functools.partial(mix, config=MixConfig(0.4, 1.0, per=per)))
    key = jax.random.key(3)
    # On 8 devices images move between devices, because each has 6.
    counts = (1, 8) if per == "pair" else (1, 2)
    alone, shared = (
        jax.device_get(step(put_batch(batch, devices(count)), key)) for count in counts
    )
    for name, value in alone.items():
        np.testing.assert_array_equal(shared[name], value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixup": -0.1}, r"config.mix.mixup is -0.1; expected 0 or a positive"),
        ({"cutmix": -1.0}, r"config.mix.cutmix is -1.0"),
        ({"frequency": 1.1}, r"config.mix.frequency is 1.1; expected 0 to 1"),
        ({"cutmix_frequency": -1.0}, r"config.mix.cutmix_frequency is -1.0"),
        ({"per": "elem"}, r"config.mix.per is 'elem'.*batch, element, pair"),
    ],
)
def test_invalid_settings_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MixConfig(**changes)


def test_an_odd_batch_has_no_pairs() -> None:
    check_pairs(15, MixConfig())
    check_pairs(16, BOTH)
    with pytest.raises(InputError, match="batch_size is 15; expected an even number"):
        check_pairs(15, BOTH)


def meets_itself(batch_size: int, repeats: int, begin: int) -> bool:
    """Return whether a batch that begins at a position mixes an example with itself."""
    rows = range(batch_size)
    positions = begin + np.array([position_of_row(0, row, batch_size, repeats) for row in rows])
    examples = positions // repeats
    return bool((examples == np.asarray(partners(examples))).any())


@pytest.mark.parametrize("repeats", [1, 2, 3, 4, 6])
def test_a_batch_that_would_mix_an_example_with_itself_is_refused(repeats: int) -> None:
    refused = set()
    for batch_size in range(2, 70, 2):
        try:
            check_pairs(batch_size, BOTH, repeats)
        except InputError:
            refused.add(batch_size)
            check_pairs(batch_size, MixConfig(), repeats)
    expected = {
        batch_size
        for batch_size in range(2, 70, 2)
        if any(meets_itself(batch_size, repeats, begin) for begin in range(repeats))
    }
    assert refused == expected
    whole = {1: set(), 2: {2, 4, 8, 16}, 3: set(), 4: {4, 8, 16, 32}, 6: {6, 12, 24, 48}}[repeats]
    assert whole <= refused


@pytest.mark.parametrize("repeats", [2, 3, 4, 5, 8])
def test_the_error_for_a_batch_too_small_for_its_repeats_names_a_size(
    repeats: int,
) -> None:
    found = rf"batch_size is 2 and config.data.augment.repeats is {repeats}; expected .*no image"
    with pytest.raises(InputError, match=rf"{found}.*use at least {16 * repeats} images"):
        check_pairs(2, BOTH, repeats)
    for batch_size in range(16 * repeats, 16 * repeats + 64, 2):
        check_pairs(batch_size, BOTH, repeats)
