"""A run as an object: what it shows, and where its folder is accepted."""

from __future__ import annotations

from pathlib import Path

from flax_resnet import evaluate_run, restore
from flax_resnet.training.networks import open_network


def test_a_run_is_shown_in_a_line(tiny_run: Path) -> None:
    run = restore(tiny_run)
    assert repr(run) == (
        f"Run(tiny, 10 classes, step 1 of '{tiny_run}', top1={run.metrics['top1']:.4f})"
    )
    assert len(repr(open_network(tiny_run))) < 5_000


def test_a_run_is_evaluated_by_its_folder(tiny_run: Path) -> None:
    expected = evaluate_run(restore(tiny_run))
    assert evaluate_run(tiny_run) == evaluate_run(str(tiny_run)) == expected
