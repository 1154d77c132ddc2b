"""Data sets stored on the devices, where batches are gathered, shifted and mirrored.

Every device holds all images, as uint8: small data sets take a hundredth of its memory, and no
example has to be sent to the device that needs it. The host sends only the numbers of a batch's
examples, 12 bytes each. Random crops and flips depend only on (seed, epoch, example, repeat), so
batches are the same on any number of devices and processes, and after a restart.
"""

import functools
import os
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Int32, UInt8

from flax_resnet.data.batches.in_memory import InMemoryData
from flax_resnet.data.config import DataConfig
from flax_resnet.data.positions import Members, Place, batch_places, process_rows
from flax_resnet.errors import InputError
from flax_resnet.steps.mesh import put_batch, put_copies, split

# Distinguishes the random keys of crops and flips from those of dropout and mixing.
_CROPS = 0x63726F70
# Share of a device's memory for images; the rest is for the network.
_SHARE = 0.5

Take = Callable[[jax.Array, jax.Array, jax.Array], dict[str, jax.Array]]


class DeviceData:
    """A data set on every device of a mesh."""

    def __init__(self, data: InMemoryData, mesh: Mesh, take: Take) -> None:
        """Copy `data` to the devices; `take` makes the rows of a batch."""
        self._mesh, self._take = mesh, take
        self._skipped, self._mask = data.skipped, data.mask
        self._images, self._labels = put_copies((data.images, data.labels), mesh)

    def training(
        self, config: DataConfig, seed: int, numbers: range, members: Members | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """Yield the training batches with these numbers, with the examples of `train_batches`."""
        for number in numbers:
            rows = process_rows(config.batch_size, jax.process_index(), jax.process_count())
            repeats, length = config.augment.repeats, len(self._skipped)
            places = batch_places(number, rows, config.batch_size, seed, length, repeats, members)
            yield self._batch(places) | {"skipped": self._skipped[places[:, 1]]}

    def evaluation(self, config: DataConfig) -> Generator[dict[str, Any], None, None]:
        """Yield batches with every example once, masked like those of `eval_batches`."""
        size, length = config.eval_batch_size, len(self._skipped)
        rows = np.asarray(process_rows(size, jax.process_index(), jax.process_count()))
        for start in range(0, length, size):
            examples = start + rows
            real = examples < length
            examples[~real] = 0
            places = np.zeros((len(rows), len(Place._fields)), np.int32)
            places[:, 1] = examples
            yield self._batch(places) | {
                "mask": real & self._mask[examples],
                "skipped": np.where(real, self._skipped[examples], 0),
            }

    def _batch(self, places: np.ndarray) -> dict[str, Any]:
        sent = put_batch({"places": places}, self._mesh)["places"]
        return self._take(self._images, self._labels, sent)


def make_take(mesh: Mesh, config: DataConfig | None = None, seed: int = 0) -> Take:
    """Return the jitted `(images, labels, places) -> image and label` of a batch's rows.

    Args:
      config: how training images are cropped and mirrored; None leaves images as they are.
    """

    def take(
        images: UInt8[Array, "examples h w c"],
        labels: Int32[Array, " examples"] | Bool[Array, "examples classes"],
        places: Int32[Array, "rows 3"],
    ) -> dict[str, jax.Array]:
        examples = places[:, 1]
        chosen = images.at[examples].get(mode="promise_in_bounds")
        if config is not None:
            change = functools.partial(_changed, config=config, seed=seed)
            chosen = jax.vmap(change)(chosen, places)
        return {"image": chosen, "label": labels.at[examples].get(mode="promise_in_bounds")}

    whole, rows = PartitionSpec(), split(mesh).spec
    local = jax.shard_map(take, mesh=mesh, in_specs=(whole, whole, rows), out_specs=rows)
    return jax.jit(local)


def _changed(
    image: UInt8[Array, "h w c"], place: Int32[Array, " 3"], config: DataConfig, seed: int
) -> UInt8[Array, "h w c"]:
    """Shift and mirror an image as the host's `pad_crop` and `train_transform` do."""
    key = jax.random.fold_in(jax.random.key(seed), _CROPS)
    for number in place:
        key = jax.random.fold_in(key, number)
    # Always draw all three, so that switching one off does not change the others.
    down, across, mirrored = jax.random.uniform(key, (3,))
    if config.crop == "pad_crop":
        reach = config.crop_padding
        padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)))
        top, left = (jnp.int32(uniform * (2 * reach + 1)) for uniform in (down, across))
        image = jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)
    if config.flip:
        image = jnp.where(mirrored < 0.5, image[:, ::-1], image)
    return image


def check_room(config: DataConfig, train_count: int, eval_count: int, mesh: Mesh) -> None:
    """Raise `InputError` if the images need too much of a device's memory."""
    if not config.on_device:
        return
    pixels = train_count * config.image_size**2 + eval_count * config.test_size**2
    needed, room = pixels * config.channels, int(_SHARE * _device_memory(mesh))
    if needed > room:
        raise InputError(
            f"config.data.on_device is True, and {train_count + eval_count} images of "
            f"{config.image_size} pixels need {needed >> 20} MiB on every device; expected at most "
            f"{room >> 20}, half of its memory. Set it to False, or make "
            "config.data.image_size smaller."
        )


def _device_memory(mesh: Mesh) -> int:
    """Return the bytes of this process's smallest device."""
    devices = [each for each in mesh.devices.flat if each.process_index == jax.process_index()]
    limits = [(device.memory_stats() or {}).get("bytes_limit") for device in devices]
    known = [limit for limit in limits if limit]
    if known:
        return min(known)
    # CPU devices share the memory of the machine.
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(devices)
