"""Networks as pure functions of (variables, images); imports jax and flax only."""

from flax_resnet.models.densenet import DenseNet
from flax_resnet.models.ends import IGNORED
from flax_resnet.models.fpn import FeaturePyramid
from flax_resnet.models.highway import Highway
from flax_resnet.models.resnet import ResNet
from flax_resnet.models.summary import count_both, count_macs, count_parameters, summarize
from flax_resnet.models.unet import UNet
from flax_resnet.models.unet_encoder import EncoderUNet
from flax_resnet.models.variables import to_layout, variable_shapes
from flax_resnet.models.variants import Network, create_model, list_models

__all__ = [
    "IGNORED",
    "DenseNet",
    "EncoderUNet",
    "FeaturePyramid",
    "Highway",
    "Network",
    "ResNet",
    "UNet",
    "count_both",
    "count_macs",
    "count_parameters",
    "create_model",
    "list_models",
    "summarize",
    "to_layout",
    "variable_shapes",
]
