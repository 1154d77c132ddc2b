import pytest

from benchmarks.accuracy import figures, parse_variant, summary


def run(variant, seed, **accuracies):
    return {"variant": variant, "seed": seed, "evaluations": [accuracies], "test": None}


def test_a_variant_is_a_name_and_its_settings():
    assert parse_variant("no flip: data.flip=False epochs=2") == (
        "no flip",
        ["data.flip=False", "epochs=2"],
    )
    assert parse_variant("as it is:") == ("as it is", [])


@pytest.mark.parametrize("text", ["no colon", "name: flag"])
def test_a_variant_that_is_none_is_an_error(text):
    with pytest.raises(SystemExit, match='expected "NAME: KEY=VALUE'):
        parse_variant(text)


def test_test_images_count_where_a_run_has_them():
    evaluated = {"evaluations": [{"top1": 0.5, "loss": 1.0}], "test": {"top1": 0.25, "step": 3}}
    assert figures(evaluated) == {"top1": 0.25}
    assert figures(evaluated | {"test": None}) == {"top1": 0.5}


def test_the_spread_is_that_of_the_seeds():
    runs = [run("a", 0, top1=0.5, ema_top1=0.75), run("a", 1, top1=0.7, ema_top1=0.75)]
    found = summary([*runs, run("b", 0, top1=1.0)])
    assert found["a"]["top1"] == (pytest.approx(0.6), 0.5, 0.7)
    assert found["a"]["ema_top1"] == (0.75, 0.75, 0.75)
    assert found["b"] == {"top1": (1.0, 1.0, 1.0)}
