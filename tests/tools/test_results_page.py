"""The page of results and README's table agree with the committed results."""

from tools.results_page import load_results, main, page, readme_table

ENVIRONMENT = {"date": "2026-01-01", "cores": 2, "cpu": "CPU", "gpus": [], "commit": "abc"}


def run(seed, top1, **more):
    values = {"seed": seed, "evaluations": [{"top1": top1}], "test": None}
    return values | {"variant": "recipe", "seconds": 120.0, "seconds_per_epoch": 4.0} | more


def accuracy(*runs, config="configs/digits.py"):
    return {
        "benchmark": "accuracy",
        "config": config,
        "environment": ENVIRONMENT,
        "trained_at": "def",
        "shared": ["epochs=2.0", "data.eval_split=test"],
        "variants": {"recipe": []},
        "runs": list(runs),
    }


def test_the_pages_are_up_to_date():
    assert main(["--check"]) == 0, "not up to date: python -m tools.results_page"


def test_an_accuracy_has_spread_time_machine_commit_command_and_file():
    text = page({"accuracy-digits.json": accuracy(run(0, 0.9), run(1, 0.8))})
    row = (
        "| `digits` | `epochs=2.0` | top1, evaluation images | 85.00% | 7.07% | 80.00% to 90.00% "
        "| 2 | 4.0 | 2.0 | 2 cores, CPU | def | `accuracy-digits.json` |"
    )
    assert row in text
    changes = "--config.epochs=2.0 --config.data.eval_split=test --config.seed=0"
    assert f"python train.py --config configs/digits.py {changes}\n" in text


def test_a_stored_result_takes_the_place_of_a_lower_one_in_the_readme():
    told = readme_table({"a.json": accuracy(run(0, 0.9))})
    assert "97.8 to 99.7 % accuracy" in told
    stored = readme_table({"a.json": accuracy(run(0, 0.9, test={"top1": 0.99}))})
    assert (
        "| `configs/digits.py`, `epochs=2.0` | 99.00% top1 of the test images, one seed |" in stored
    )
    assert "97.8 to 99.7 % accuracy" not in stored


def test_every_committed_result_is_listed():
    results = load_results()
    text = page(results)
    assert all(f"`{file}`" in text for file in results)


def test_comparisons_with_torch_have_their_intervals():
    side = {"loss": [0.0], "gradient": [1e-6]}
    names = ("jax-float32", "torch-float32", "torch-float64")
    shared = {"environment": ENVIRONMENT, "config": "configs/digits.py", "changes": ["epochs=3"]}
    steps = {
        "benchmark": "accuracy_beside_torch_steps",
        "kept_steps": [0],
        "losses": {"jax-float64": [2.3]},
        "differences": dict.fromkeys(names, side),
    }
    mean = {"mean": 0.9, "deviation": 0.0}
    summary = {"seeds": 3, "jax": mean, "torch": mean, "difference": {"mean": 0.001}}
    summary["interval"] = {"confidence": 0.95, "from": -0.01, "to": 0.012}
    runs = {"benchmark": "accuracy_beside_torch_runs", "summary": summary}
    text = page({"s.json": shared | steps, "r.json": shared | runs})
    assert "| 0 | 2.3000 | 0.0e+00 | 1.0e-06 |" in text
    assert "| `digits` (`epochs=3`) | 3 | 90.00% | 90.00% | +0.10% | -1.00% to +1.20% |" in text
