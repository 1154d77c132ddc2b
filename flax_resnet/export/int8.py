"""ONNX in 8-bit integers: onnxruntime's static quantization, and the accuracy that it costs."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flax_resnet.data import DataConfig, Source, eval_batches
from flax_resnet.data.sources.sample import Sample
from flax_resnet.errors import InputError, install_extra
from flax_resnet.export.formats import write_description
from flax_resnet.export.network import Exported
from flax_resnet.export.onnx import write_onnx
from flax_resnet.files import replacing, writable
from flax_resnet.steps.gradient import normalize

# Images that the ranges of activations are measured on; more change little.
CALIBRATION_IMAGES = 512
Classify = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Quantized:
    """What quantization costs and saves.

    Attributes:
      images: the number of images that the accuracies are of.
      before, after: the share of them that float32 and int8 classify correctly.
      same: the share that both put into the same class.
      bytes_before, bytes_after: sizes of the two files.
    """

    images: int
    before: float
    after: float
    same: float
    bytes_before: int
    bytes_after: int


class _Batch(NamedTuple):
    images: np.ndarray
    truth: np.ndarray


def write_int8(
    network: Exported, path: Path, calibration: Source, evaluation: Source, data: DataConfig
) -> Quantized:
    """Write a network to `path` in 8 bits, and the description of its images to `path.json`.

    Weights have a scale for each output channel. Convolutions and what onnxruntime quantizes
    around them compute with integers; the rest, and the input and the logits, stay in float32.

    Args:
      calibration: images, usually of training, that give the ranges of activations; a sample of
        `CALIBRATION_IMAGES` is used.
      evaluation: images with their classes, to measure the accuracies on.
      data: how the images are prepared.

    Raises:
      InputError: as of `write_onnx`, or no image can be decoded.
    """
    try:
        import onnxruntime
        from onnxruntime.quantization import quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ModuleNotFoundError:
        raise InputError(f"int8 needs onnx and onnxruntime: {install_extra('onnx')}") from None

    def classifier(file: Path) -> Classify:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})[0].argmax(1)

    with tempfile.TemporaryDirectory() as folder, writable(path):
        exact, ready = Path(folder) / "float32.onnx", Path(folder) / "ready.onnx"
        write_onnx(network, exact)
        # Symbolic shapes would add nothing: only the batch size is open.
        quant_pre_process(exact, ready, skip_symbolic_shape=True)
        sample = _batches(network, Sample.of(calibration, CALIBRATION_IMAGES), data)
        with replacing(path) as part:
            quantize_static(ready, part, _Calibration(sample), per_channel=True)
            evaluated = _batches(network, evaluation, data)
            answers = _answers(evaluated, classifier(exact), classifier(part))
            found = _compared(answers, exact.stat().st_size, part.stat().st_size)
        write_description(network, path)
    return found


def _batches(network: Exported, source: Source, data: DataConfig) -> Iterator[_Batch]:
    """Yield images as the file takes them, without padding and what cannot be decoded."""
    with closing(eval_batches(source, data)) as batches:
        for batch in batches:
            counted = batch["mask"].astype(bool)
            images = batch["image"][counted]
            if not network.preprocess:
                images = np.asarray(normalize(images, data.mean, data.std))
            if len(images):
                yield _Batch(images, batch["label"][counted])


class _Calibration:
    """Images in the form that onnxruntime's calibration asks for: a batch a call, then None."""

    def __init__(self, batches: Iterator[_Batch]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch.images}


def _answers(batches: Iterator[_Batch], before: Classify, after: Classify) -> np.ndarray:
    """Return the true class and the answers of both files, as (3, images)."""
    found = [(batch.truth, before(batch.images), after(batch.images)) for batch in batches]
    if not found:
        raise InputError("no image can be decoded to measure the accuracy of int8 on")
    return np.concatenate([np.stack(each) for each in found], axis=1)


def _compared(answers: np.ndarray, bytes_before: int, bytes_after: int) -> Quantized:
    truth, before, after = answers
    return Quantized(
        len(truth),
        float((before == truth).mean()),
        float((after == truth).mean()),
        float((before == after).mean()),
        bytes_before,
        bytes_after,
    )
