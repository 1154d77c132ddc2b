import json

from benchmarks.recipes import PAGE, differences, load_recipes, measurements, page


def test_the_page_is_what_the_recipes_say():
    assert PAGE.read_text() == page(load_recipes(), measurements()), (
        "docs/recipes.md is not up to date: python -m benchmarks.recipes"
    )


def test_settings_that_differ_are_told_with_their_place():
    defaults = {"epochs": 1.0, "mean": (0.5,), "mix": {"mixup": 0.0, "per": "batch"}}
    values = {"epochs": 2.0, "mean": (0.1,), "mix": {"mixup": 0.2, "per": "batch"}}
    assert differences(values, defaults) == ["`epochs` 2.0", "`mix.mixup` 0.2"]


def test_what_was_measured_is_told_by_recipe_and_variant(tmp_path):
    runs = [
        {"variant": "plain", "seed": seed, "evaluations": [{"top1": top1}], "test": None}
        for seed, top1 in enumerate((0.5, 0.7))
    ]
    shared = ["epochs=1.0", "data.eval_split=test"]
    result = {"config": "configs/digits.py", "shared": shared, "runs": runs}
    (tmp_path / "accuracy-digits_2-cores.json").write_text(json.dumps(result))
    expected = "plain (`epochs=1.0`), top1: 60.00% (50.00% to 70.00%), 2 seeds"
    assert measurements(tmp_path) == {"digits": expected}
