"""The layers that all networks are built from."""

from flax_resnet.models.layers.convolution import (
    Conv,
    Dtype,
    Images,
    Initializer,
    Linear,
    along_channels,
    at_least_float32,
    conv2d,
    he_normal,
    linear_uniform,
)
from flax_resnet.models.layers.drop import DropBlock, DropPath
from flax_resnet.models.layers.gates import (
    ChannelConv,
    EfficientChannelAttention,
    SqueezeExcite,
    make_divisible,
    transform_gate,
)
from flax_resnet.models.layers.norms import (
    Affine,
    BatchNorm,
    EvoNormS0,
    FilterResponseNorm,
    GroupNorm,
)
from flax_resnet.models.layers.resampling import (
    TransposedConv,
    average_pairs,
    average_pool,
    blur_pool,
    global_average_pool,
    max_pool,
    upsample_bilinear,
    upsample_nearest,
)

__all__ = [
    "Affine",
    "BatchNorm",
    "ChannelConv",
    "Conv",
    "DropBlock",
    "DropPath",
    "Dtype",
    "EfficientChannelAttention",
    "EvoNormS0",
    "FilterResponseNorm",
    "GroupNorm",
    "Images",
    "Initializer",
    "Linear",
    "SqueezeExcite",
    "TransposedConv",
    "along_channels",
    "at_least_float32",
    "average_pairs",
    "average_pool",
    "blur_pool",
    "conv2d",
    "global_average_pool",
    "he_normal",
    "linear_uniform",
    "make_divisible",
    "max_pool",
    "transform_gate",
    "upsample_bilinear",
    "upsample_nearest",
]
