"""Images of any kind become the input of a network."""

import io
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import flax_resnet
from flax_resnet import InputError, preprocessing, save_pretrained
from flax_resnet.data.images.transforms import eval_transform
from flax_resnet.inference.preprocessing import ImagePreprocessing
from flax_resnet.steps.gradient import normalize
from flax_resnet.weights import Preprocessing

PREPARE = ImagePreprocessing(12, 0.75, "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def as_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_images_of_every_kind_are_resized_cropped_and_normalized(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(as_png(pixels))
    squares = eval_transform(pixels, PREPARE.data)
    expected = np.asarray(normalize(jnp.asarray(squares[None]), PREPARE.mean, PREPARE.std))
    assert expected.shape == (1, 12, 12, 3)
    path, opaque = tmp_path / "a.png", np.full((30, 40, 1), 255, np.uint8)
    for image in (
        path,
        str(path),
        as_png(pixels),
        Image.open(path),
        Image.fromarray(np.concatenate([pixels, opaque], -1)),
        pixels,
        np.concatenate([pixels, opaque], -1),
        jnp.asarray(pixels),
    ):
        np.testing.assert_array_equal(PREPARE(image), expected)


def test_several_images_of_any_sizes_make_one_batch(pixels: np.ndarray) -> None:
    grey = pixels[:20, :, 0]
    found = PREPARE([pixels, grey, as_png(pixels)])
    assert (found.shape, found.dtype) == ((3, 12, 12, 3), jnp.float32)
    np.testing.assert_array_equal(found[1:2], PREPARE(grey))
    np.testing.assert_array_equal(PREPARE(np.stack([pixels, pixels])), found[jnp.array([0, 2])])
    np.testing.assert_array_equal(PREPARE(each for each in [pixels]), found[:1])
    assert PREPARE([]).shape == (0, 12, 12, 3)


def test_numbers_have_the_names_of_the_settings() -> None:
    found = preprocessing("resnet50.a1_in1k")
    assert (found.image_size, found.channels, found.eval_crop) == (288, 3, 1.0)
    for name in ("image_size", "channels", "eval_crop", "interpolation", "mean", "std"):
        assert getattr(found, name) == getattr(found.data, name)
    assert preprocessing("resnet50.a1_in1k", train_size=True).eval_crop == 0.95


def test_it_is_equal_to_the_description_that_weights_are_saved_with(
    tiny_run: Path, tmp_path: Path
) -> None:
    images = Preprocessing(12, 1.0, "bicubic", (0.4,) * 3, (0.2,) * 3)
    run = flax_resnet.restore(tiny_run)
    save_pretrained(
        run.model, run.variables, tmp_path / "a", architecture="tiny", preprocessing=images
    )
    found = preprocessing(tmp_path / "a")
    assert found == images
    assert images == found
    assert hash(found) == hash(preprocessing(tmp_path / "a"))
    save_pretrained(
        run.model, run.variables, tmp_path / "b", architecture="tiny", preprocessing=found
    )
    assert preprocessing(tmp_path / "b") == found


def test_a_run_prepares_images_as_its_evaluation_does(tiny_run: Path, pixels: np.ndarray) -> None:
    prepare, data = preprocessing(tiny_run), flax_resnet.restore(tiny_run).config.data
    expected = normalize(jnp.asarray(eval_transform(pixels, data)[None]), data.mean, data.std)
    np.testing.assert_array_equal(prepare(pixels), expected)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("nowhere.jpg", r"nowhere\.jpg cannot be read: No such file"),
        (b"text", "the image cannot be read: its 4 bytes start with"),
        (["nowhere.jpg"], r"nowhere\.jpg cannot be read"),
        ([np.zeros((4, 4, 3), np.uint8), b"text"], "image 1 cannot be read"),
        (np.zeros((4, 4, 3)), r"it is float64 \(4, 4, 3\); expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"it is uint8 \(4, 4, 2\); expected uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"it is uint8 \(0, 4, 3\); expected"),
        (7, "images is a int; expected a path, the bytes"),
        ({"a": b""}, "images is a dict; expected"),
        ([[b"text"]], "image 0 is a list; expected"),
        ("https://example.org/a.jpg", "is an address"),
    ],
    ids=str,
)
def test_what_is_no_image_is_an_error_that_names_it(images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PREPARE(images)


def test_damaged_and_closed_pillow_images_are_errors(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="the image cannot be read: "):
        PREPARE(Image.open(io.BytesIO(as_png(pixels)[:500])))
    image = Image.open(io.BytesIO(as_png(pixels)))
    image.close()
    with pytest.raises(InputError, match="the image cannot be read: "):
        PREPARE(image)


def test_rotation_of_a_camera_is_applied_to_pillow_images_too(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    image = Image.fromarray(np.indices((16, 24)).sum(0).astype(np.uint8) * 6)
    image.save(tmp_path / "a.png", exif=turned)
    expected = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_GRAYSCALE)
    assert expected.shape == (24, 16)
    np.testing.assert_array_equal(PREPARE(Image.open(tmp_path / "a.png")), PREPARE(expected))
