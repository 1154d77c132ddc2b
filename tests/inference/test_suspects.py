"""Labels that are likely wrong: those that a network contradicts with the usual certainty."""

from pathlib import Path

import numpy as np

from flax_resnet.inference.scores import Scores, score
from flax_resnet.inference.suspects import Suspect, suspects, write_suspects

# Images of class 0 have a probability of 0.8 of it on average, and images of class 1 of 0.45.
PROBABILITIES = [
    ([0.95, 0.05], 0),
    ([0.65, 0.35], 0),
    ([0.90, 0.10], 1),  # surely of class 0
    ([0.70, 0.30], 1),  # of class 0, but less surely than is usual
    ([0.05, 0.95], 1),
]


def scores() -> Scores:
    """Return the answers of a network that gives these probabilities."""
    shares, truth = zip(*PROBABILITIES, strict=True)
    return score(np.log(np.array(shares)), np.array(truth))


def test_a_label_is_suspect_if_another_class_is_as_probable_as_is_usual_for_it() -> None:
    (found,) = suspects(scores())
    assert (found.row, found.label, found.suggested) == (2, 1, 0)
    np.testing.assert_allclose((found.label_probability, found.suggested_probability), (0.1, 0.9))


def test_swapped_labels_come_first() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((200, 4))
    truth = rng.integers(0, 4, 200)
    logits[np.arange(200), truth] += 5
    swapped = truth.copy()
    swapped[:10] = (truth[:10] + 1) % 4
    found = suspects(score(logits, swapped))
    assert {each.row for each in found[:10]} == set(range(10))
    assert all(each.suggested == truth[each.row] for each in found[:10])


def test_a_class_without_images_is_never_suggested() -> None:
    shares = np.log([[0.1, 0.9, 0.0001], [0.1, 0.0001, 0.9]])
    assert [each.row for each in suspects(score(shares, np.array([1, 1])))] == []
    assert suspects(score(np.zeros((0, 3)), np.zeros(0, int))) == []


def test_the_table_names_image_label_and_suggestion(tmp_path: Path) -> None:
    found = [Suspect(3, 1, 0, 0.1, 0.9)]
    write_suspects(tmp_path / "s.csv", found, ("cat", "dog, wet"), lambda row: f"dog/{row}.jpg")
    assert (tmp_path / "s.csv").read_text().splitlines() == [
        "image,label,suggested,label_probability,suggested_probability",
        'dog/3.jpg,"dog, wet",cat,0.100000,0.900000',
    ]
