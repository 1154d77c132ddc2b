"""A confusion matrix on the screen."""

import io

import numpy as np
from rich.console import Console

from flax_resnet.commands.confusions import confusion_table


def shown(confusion: np.ndarray, names: list[str], width: int = 200) -> list[list[str]]:
    """Return the words of each line of the table."""
    console = Console(width=width, file=io.StringIO())
    console.print(confusion_table(console, confusion, names))
    lines = console.file.getvalue().splitlines()
    return [line.replace("│", " ").replace("┃", " ").split() for line in lines]


def test_few_classes_are_shown_whole() -> None:
    lines = shown(np.array([[3, 1], [0, 0]]), ["cat", "[red]dog\n"])
    assert ["truth", "cat", r"[red]dog\n", "right"] in lines
    assert ["cat", "3", "1", "75%"] in lines
    assert [r"[red]dog\n", "0", "0", "-"] in lines


def test_of_many_classes_the_worst_pairs_are_shown() -> None:
    confusion = np.eye(20, dtype=np.int64)
    confusion[3, 5], confusion[7, 1] = 2, 4
    lines = shown(confusion, [f"class{number}" for number in range(20)])
    rows = [line for line in lines if line and line[0].startswith("class")]
    assert rows == [["class7", "class1", "4", "5"], ["class3", "class5", "2", "3"]]


def test_a_matrix_that_does_not_fit_is_not_cut() -> None:
    confusion = np.array([[3, 1], [0, 2]])
    names = ["a" * 30, "b" * 30]
    assert ["truth", *names, "right"] in shown(confusion, names)
    assert [names[0], names[1], "1", "4"] in shown(confusion, names, width=90)
