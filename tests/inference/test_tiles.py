"""Predictions for large images by tiles, which equal those for the whole image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.errors import InputError
from flax_resnet.inference.tiles import predict, predict_tiled

REACH = 3


@pytest.fixture
def apply():
    """Return a random convolution that reaches three pixels, with zeros beyond the border."""
    kernel = jax.random.normal(jax.random.key(0), (2 * REACH + 1, 2 * REACH + 1, 2, 3))

    def convolve(images: np.ndarray) -> jax.Array:
        return jax.lax.conv_general_dilated(
            images.astype(jnp.float32), kernel, (1, 1), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    return convolve


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 2), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(20, 33), (10, 10), (4, 50)])
@pytest.mark.parametrize(("tile", "overlap"), [(16, 3), (16, 5), (7, 3), (64, 3)])
def test_tiles_give_the_prediction_for_the_whole_mirrored_image(
    apply, height: int, width: int, tile: int, overlap: int
) -> None:
    image = picture(height, width)
    mirrored = np.pad(image, [(REACH, REACH), (REACH, REACH), (0, 0)], mode="reflect")
    whole = np.asarray(apply(mirrored[None]))[0, REACH:-REACH, REACH:-REACH]
    np.testing.assert_allclose(predict_tiled(apply, image, tile, overlap), whole, rtol=1e-4, atol=1)
    inner = slice(REACH, -REACH)
    np.testing.assert_allclose(
        whole[inner, inner], np.asarray(apply(image[None]))[0, inner, inner], rtol=1e-4, atol=1
    )


def test_without_enough_overlap_the_seams_show(apply) -> None:
    image = picture(40, 40)
    seamless = predict_tiled(apply, image, 16, REACH)
    assert np.abs(predict_tiled(apply, image, 16, REACH - 1) - seamless).max() > 10


def test_an_image_that_fits_a_tile_is_seen_in_one_piece(apply) -> None:
    image = picture(16, 12)
    np.testing.assert_array_equal(predict(apply, image, 16, 3), np.asarray(apply(image[None]))[0])
    np.testing.assert_array_equal(predict(apply, image, 15, 3), predict_tiled(apply, image, 15, 3))


@pytest.mark.parametrize(("tile", "overlap"), [(6, 3), (6, -1), (0, 0)])
def test_tiles_without_a_center_are_refused(apply, tile: int, overlap: int) -> None:
    with pytest.raises(InputError, match=rf"tiles of {tile} pixels with {overlap} of context"):
        predict_tiled(apply, picture(20, 20), tile, overlap)
