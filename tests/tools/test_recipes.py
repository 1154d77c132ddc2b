import json

import pytest

from tools.recipes import (
    PAGE,
    differences,
    load_recipes,
    measurements,
    page,
    summary,
    verified_recipes,
)


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(load_recipes(), measurements(), verified_recipes()), (
        "docs/recipes.md is not up to date: python -m tools.recipes"
    )


def test_a_recipe_has_its_accuracy_or_what_is_verified_of_it():
    recipes = {recipe.name: recipe for recipe in load_recipes()}
    chosen = [recipes[name] for name in ("digits", "rsb_a1", "finetune")]
    rows = page(chosen, {"digits": "99 %"}, ["digits", "rsb_a1"]).splitlines()
    cells = [row.split("|")[4].strip() for row in rows if row.count("|") == 6][2:]
    assert cells == ["99 %", "settings verified, accuracy not measured", ""]


def test_changed_settings_are_listed_with_their_section():
    defaults = {"epochs": 1.0, "mean": (0.5,), "mix": {"mixup": 0.0, "per": "batch"}}
    values = {"epochs": 2.0, "mean": (0.1,), "mix": {"mixup": 0.2, "per": "batch"}}
    assert differences(values, defaults) == ["`epochs` 2.0", "`mix.mixup` 0.2"]


def test_measurements_are_listed_by_recipe_and_variant(tmp_path):
    runs = [
        {"variant": "plain", "seed": seed, "evaluations": [{"top1": top1}], "test": None}
        for seed, top1 in enumerate((0.5, 0.7))
    ]
    shared = ["epochs=1.0", "data.eval_split=test"]
    result = {"config": "configs/digits.py", "shared": shared, "runs": runs}
    (tmp_path / "accuracy-digits_2-cores.json").write_text(json.dumps(result))
    expected = "plain (`epochs=1.0`), top1: 60.00% (50.00% to 70.00%), 2 seeds"
    assert measurements(tmp_path) == {"digits": expected}


def test_spreads_are_over_seeds_and_test_results_precede_evaluations():
    def run(variant, test=None, **accuracies):
        return {"variant": variant, "evaluations": [accuracies], "test": test}

    runs = [run("a", top1=0.5, ema_top1=0.75), run("a", top1=0.7, ema_top1=0.75)]
    found = summary([*runs, run("b", top1=1.0, test={"top1": 0.25, "step": 3})])
    assert found["a"]["top1"] == (pytest.approx(0.6), 0.5, 0.7)
    assert found["a"]["ema_top1"] == (0.75, 0.75, 0.75)
    assert found["b"] == {"top1": (0.25, 0.25, 0.25)}
