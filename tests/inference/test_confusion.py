"""The confusion matrix of a run: every image counts once."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from flax_resnet import InputError, evaluate_run, restore
from flax_resnet.inference.confusion import confusion_matrix, worst_mistakes, write_confusion
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.training.runs import Run


@pytest.fixture
def run(tiny_run: Path) -> Run:
    return restore(tiny_run)


@pytest.mark.parametrize(
    ("batch", "devices"),
    [(16, 8), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((7, 1), (256, 2)))],
)
def test_every_image_counts_once_in_its_row(run: Run, batch: int, devices: int) -> None:
    data = dataclasses.replace(run.config.data, eval_batch_size=batch)
    mesh = data_mesh(jax.devices()[:devices])
    found = confusion_matrix(run, data, "test[:101]", mesh)
    # The class of a synthetic image is its index modulo the number of classes.
    assert found.sum(1).tolist() == [11] + 9 * [10]
    metrics = evaluate_run(run, data, "test[:101]", mesh)
    assert found.trace() == round(metrics["top1"] * 101)
    np.testing.assert_array_equal(found, confusion_matrix(run, split="test[:101]"))


def test_a_run_of_another_task_is_refused(run: Run) -> None:
    config = dataclasses.replace(run.config, task="segmentation")
    with pytest.raises(InputError, match="is a run of segmentation"):
        confusion_matrix(dataclasses.replace(run, config=config))


def test_the_worst_mistakes_come_first() -> None:
    confusion = np.array([[9, 0, 2], [5, 9, 0], [1, 0, 9]])
    assert worst_mistakes(confusion, 2) == [(1, 0, 5), (0, 2, 2)]
    assert worst_mistakes(confusion) == [(1, 0, 5), (0, 2, 2), (2, 0, 1)]
    assert worst_mistakes(np.eye(3, dtype=np.int64)) == []


def test_the_file_has_a_row_for_each_class(tmp_path: Path) -> None:
    write_confusion(tmp_path / "c.csv", np.array([[3, 1], [0, 2]]), ("a,b", "c"))
    assert (tmp_path / "c.csv").read_text() == 'truth,"a,b",c\n"a,b",3,1\nc,0,2\n'
