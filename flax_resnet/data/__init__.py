"""Sources of labelled images, and the pipeline that decodes, crops and batches them."""

from flax_resnet.data.batches.loading import Batch, size_ramp
from flax_resnet.data.batches.pipeline import BatchIterator, eval_batches, train_batches
from flax_resnet.data.config import DataConfig, MaskConfig
from flax_resnet.data.sources.masks import MaskSource
from flax_resnet.data.sources.open import open_source
from flax_resnet.data.sources.source import Example, Source

__all__ = [
    "Batch",
    "BatchIterator",
    "DataConfig",
    "Example",
    "MaskConfig",
    "MaskSource",
    "Source",
    "eval_batches",
    "open_source",
    "size_ramp",
    "train_batches",
]
