import pytest

from benchmarks.peers.part_table import merge_round, part_tables, ratios, shares


def measured(seconds, work=None):
    repeats = [{"steps": 2, "seconds": value, "cpu_seconds": 2 * value} for value in seconds]
    memory = {"peak": 3 << 30}
    return {
        "status": "done",
        "repeats": repeats,
        "first_step_s": 7.0,
        "memory": memory,
        "work": work or {},
    }


OURS = {"batch_size": 8, "model_flops": 1e9, "xla_bytes": 1e6}


@pytest.fixture
def parts():
    found = {}
    merge_round(found, "jax-train", measured([1.0, 1.0], OURS), 8)
    merge_round(found, "torch-eager-train", measured([2.0]), 8)
    merge_round(found, "torch-compile-train", measured([0.5]), 8)
    ceilings = {"flops_per_s": {"median": 8e9}, "bytes_per_s": {"median": 8e6}}
    merge_round(found, "jax-ceilings", {"status": "done", **ceilings}, 8)
    return found


def test_rounds_are_summarized_together():
    parts = {}
    merge_round(parts, "jax-train", measured([1.0, 2.0]), 8)
    merge_round(parts, "jax-train", measured([4.0]), 8)
    assert parts["jax-train"]["images_per_second"]["values"] == [16.0, 8.0, 4.0]
    assert len(parts["jax-train"]["rounds"]) == 2


def test_a_part_failed_if_one_of_its_rounds_failed():
    parts = {}
    merge_round(parts, "jax-train", measured([1.0]), 8)
    merge_round(parts, "jax-train", {"status": "failed", "reason": "no memory"}, 8)
    assert parts["jax-train"]["status"] == "failed"
    assert parts["jax-train"]["reason"] == "no memory"
    assert parts["jax-train"]["images_per_second"]["median"] == 16.0


def test_ratios_are_over_each_peer_and_the_best(parts):
    medians = {peer: ratio["median"] for peer, ratio in ratios(parts)["train"].items()}
    assert medians == {"torch-eager": 2.0, "torch-compile": 0.5, "best": 0.5}


def test_a_ratio_is_of_one_round_so_that_drift_cancels():
    parts = {}
    for seconds in (1.0, 10.0):
        merge_round(parts, "jax-train", measured([seconds]), 8)
        merge_round(parts, "torch-eager-train", measured([2 * seconds]), 8)
    merge_round(parts, "jax-train", measured([5.0]), 8)
    ratio = ratios(parts)["train"]["best"]
    assert ratio["values"] == [2.0, 2.0]
    assert ratio["spread"] == 0.0


def test_folded_inference_is_compared_with_the_peer_that_folds():
    parts = {}
    merge_round(parts, "jax-inference", measured([1.0]), 8)
    merge_round(parts, "jax-folded-inference", measured([0.5]), 8)
    merge_round(parts, "torch-compile-inference", measured([1.0]), 8)
    merge_round(parts, "torch-frozen-inference", measured([0.25]), 8)
    found = ratios(parts)
    assert found["inference"].keys() == {"torch-compile", "best"}
    assert found["folded-inference"]["best"]["median"] == 0.5


def test_without_a_peer_there_is_no_ratio(parts):
    assert ratios({"jax-train": parts["jax-train"]}) == {}


def test_shares_are_relative_to_the_ceilings_of_the_run(parts):
    # 16, 8 and 32 images/s in steps of 8 images: 2, 1 and 4 steps a second
    assert shares(parts) == {
        "jax-train": {"flops": 0.25, "bytes": 0.25},
        "torch-eager-train": {"flops": 0.125},
        "torch-compile-train": {"flops": 0.5},
    }


@pytest.mark.parametrize(
    ("memory", "cell"),
    [
        ({"peak": 3 << 30}, "3.0"),
        ({"peak": None, "peak_is_of_compiling": False, "planned": 1 << 30}, ""),
        ({"peak": 3 << 30, "peak_is_of_compiling": True, "planned": 1 << 30}, "1.0 planned"),
    ],
)
def test_the_plan_replaces_a_peak_from_compiling(memory, cell):
    outcome = measured([1.0]) | {"memory": memory}
    parts = {}
    merge_round(parts, "jax-inference", outcome, 8)
    result = {"parts": parts, "ratios": {}, "shares": {}, "elapsed_s": 1.0, "device": "a GPU"}
    settings = {"model": "resnet50", "dtype": "bfloat16", "batch_size": 8, "image_size": 224}
    row = next(
        line
        for line in part_tables(result | {"settings": settings}).splitlines()
        if line.startswith("inference")
    )
    assert row.split()[2:] == ["16.0", "0.0%", *cell.split(), "1.00", "7.0"]


def test_the_table_names_what_was_skipped(parts):
    merge_round(parts, "torch-eager-inference", {"status": "skipped", "reason": "no timm"}, 8)
    settings = {"model": "resnet50", "dtype": "bfloat16", "batch_size": 8, "image_size": 224}
    text = part_tables(
        {
            "settings": settings,
            "device": "a GPU",
            "parts": parts,
            "ratios": ratios(parts),
            "shares": shares(parts),
            "elapsed_s": 9.0,
        }
    )
    assert "skipped: torch-eager-inference, no timm" in text
    assert "train: flax_resnet at 2.00 x torch-eager, 0.50 x torch-compile, 0.50 x best" in text
