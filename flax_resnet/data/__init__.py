"""Sources of labelled images, and the pipeline that decodes, crops and batches them."""

from flax_resnet.data.config import DataConfig
from flax_resnet.data.loading import Batch
from flax_resnet.data.masks import MaskSource
from flax_resnet.data.pipeline import BatchIterator, eval_batches, train_batches
from flax_resnet.data.resolution import size_ramp
from flax_resnet.data.source import Example, Source
from flax_resnet.data.sources import open_source

__all__ = [
    "Batch",
    "BatchIterator",
    "DataConfig",
    "Example",
    "MaskSource",
    "Source",
    "eval_batches",
    "open_source",
    "size_ramp",
    "train_batches",
]
