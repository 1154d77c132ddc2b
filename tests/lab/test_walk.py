"""The walk: the claims of introductions, and those that do not hold."""

import numpy as np
import pytest

from flax_resnet.lab import walk


@pytest.fixture(scope="module")
def result() -> walk.Result:
    return walk.run(walk.Settings(blocks=5))


def test_claims_are_computed(result: walk.Result) -> None:
    printed = dict(zip(result.names, result.printed, strict=True))
    assert printed["sum of ones"] == "2.0"
    assert printed["mismatch"].startswith("an error")
    assert printed["projection"] == "(1, 128, 32, 32)"
    assert printed["strided shortcut"] == "(1, 128, 16, 16)"
    assert printed["two blocks"] == "(1, 64, 32, 32), (1, 128, 16, 16)"
    assert printed["free shortcut"] == f"0, {64 * 128 + 2 * 128}"
    assert printed["vanishing"] == f"{0.8**20:.3f}, {0.8**50:.5f}"
    assert printed["gradient highway"] == "1.0"
    assert printed["identity block"] == "0.0"
    assert printed["paths"] == "32"


def test_claims_that_do_not_hold_are_marked(result: walk.Result) -> None:
    wrong = {name for name, ok in zip(result.names, result.ok, strict=True) if not ok}
    assert wrong == {
        "reason of the sum",  # a kernel of zeros ignores any input: the bias is positive
        "mismatch",  # torch and jax name the left operand first, and that is `out`
        "blocked highway",  # 1 + F' is 0 where F' is -1
        "identity of anything",  # the last ReLU removes negative values
        "quiet start",  # batch norm makes the branch as large as the input
    }
    assert walk.finding(result).startswith(
        "Of 14 claims in introductory texts, 9 are right and 5 are misconceptions of the texts"
    )


def test_the_table_has_a_row_for_every_claim(result: walk.Result) -> None:
    words = {text.get_text().replace("\n", " ") for text in walk.draw(result).axes[0].texts}
    assert {*result.claims, *result.expected, *result.printed} <= words


def test_the_finding_is_short_if_all_claims_hold() -> None:
    one = walk.Result(("paths",), ("5 blocks",), ("32",), ("32",), np.array([True]))
    assert walk.finding(one) == "Of 1 claims in introductory texts, 1 are right."
