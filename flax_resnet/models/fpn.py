"""The feature pyramid: maps of several sizes, each with the context of the smallest one."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from flax_resnet.errors import InputError, expected_names
from flax_resnet.models.layers import Conv, Dtype, Images, upsample_nearest

uniform = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


class FeaturePyramid(nn.Module):
    """Turn a network's maps into a pyramid (Lin et al., arXiv:1612.03144).

    `FeaturePyramid()(model.apply(variables, images, method="features"))` returns `p2` ... `p5`,
    where `pK` has stride `2**K`. Each is a 3x3 convolution of a sum: the 1x1 convolution of a map,
    plus the sum of the next smaller level, upsampled to its size.

    Attributes:
      features: channels of every level.
      levels: names of the maps, each half as large as the one before it.
      first: number of the first level, the base-2 logarithm of its stride.
      dtype: compute dtype. Parameters are float32.
    """

    features: int = 256
    levels: tuple[str, ...] = ("layer1", "layer2", "layer3", "layer4")
    first: int = 2
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, maps: Mapping[str, Images]) -> dict[str, Images]:
        """Return the pyramid's maps by name, the largest first.

        Raises:
          InputError: `maps` lacks a level.
        """
        for name in self.levels:
            if name not in maps:
                raise InputError(f"the pyramid's level is {name!r}; {expected_names(name, maps)}")
        pyramid: dict[str, Images] = {}
        above: Images | None = None
        for number, name in reversed(list(enumerate(self.levels, self.first))):
            x = self._conv(1, f"lateral{number}")(maps[name])
            above = x if above is None else x + doubled(above, *x.shape[1:3])
            pyramid[f"p{number}"] = self._conv(3, f"output{number}")(above)
        return dict(reversed(pyramid.items()))

    def _conv(self, size: int, name: str) -> Conv:
        return Conv(
            self.features, size, use_bias=True, kernel_init=uniform, dtype=self.dtype, name=name
        )


def doubled(x: Images, height: int, width: int) -> Images:
    """Upsample to this size: repeat every pixel, then crop or pad a row and column at the end."""
    x = upsample_nearest(x)
    missing = (max(0, height - x.shape[1]), max(0, width - x.shape[2]))
    if any(missing):
        x = jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), "edge")
    return x[:, :height, :width]
