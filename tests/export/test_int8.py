"""ONNX in 8 bits: the file is small, runs, and its accuracy is measured on real images."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from flax_resnet.__main__ import main
from flax_resnet.export.int8 import _compared


def test_a_run_is_quantized_with_its_own_data_and_compared(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "n.onnx"
    words = ["export", str(tiny_run), "--format", "onnx", "--int8", "--preprocess"]
    assert main([*words, "--out", str(file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["data"] == "synthetic:10"
    assert facts["images"] > 0
    assert 0.9 < facts["same"] <= 1
    assert abs(facts["before"] - facts["after"]) <= 1 - facts["same"]
    assert facts["bytes_after"] == file.stat().st_size
    nodes = onnx.load(file).graph.node
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in nodes}
    session = onnxruntime.InferenceSession(file)
    (logits,) = session.run(None, {"images": np.zeros((3, 8, 8, 3), np.uint8)})
    assert (logits.shape, logits.dtype) == ((3, 10), np.float32)
    assert file.with_name("n.onnx.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"n.onnx", "n.onnx.json"}


def test_accuracies_and_agreement_are_shares_of_the_images() -> None:
    truth, before, after = [0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 1, 0]
    found = _compared(np.array([truth, before, after]), 4, 1)
    assert (found.images, found.before, found.after, found.same) == (4, 0.75, 0.5, 0.75)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{run}", "--int8"], "--int8 is for --format onnx, and --format is stablehlo: omit it"),
        (
            ["resnet18.a1_in1k", "--format", "onnx", "--int8"],
            "resnet18.a1_in1k is not a run, so it has no data of its own: --int8 DATA",
        ),
        (["{run}", "--format", "onnx", "--int8", "folder:missing"], "missing"),
    ],
)
def test_what_int8_needs_is_told(
    words: list[str], told: str, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["export", *(word.format(run=tiny_run) for word in words)])
    assert told in capsys.readouterr().err
