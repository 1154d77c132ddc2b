import copy
import json

import pytest

from tests.endurance import processes
from tests.endurance.batch_record import compare_streams, merge, read_records
from tests.endurance.processes import CASES, Case, Outcome, compare

IMAGES = {"eval": 10, "test": 20}
# Two batches of four examples, read by one process and by two.
ALONE = {"reads": [[at, 0, 9 - at] for at in range(8)], "rows": list("abcdefgh"), "writes": 2}
FIRST = {"reads": [[at, 0, 9 - at] for at in (0, 1, 4, 5)], "rows": list("abef"), "writes": 2}
SECOND = {"reads": [[at, 0, 9 - at] for at in (2, 3, 6, 7)], "rows": list("cdgh"), "writes": 0}
ROWS = [
    {"kind": "train", "step": 1, "loss": 2.0},
    {"kind": "train", "step": 2, "loss": 1.0},
    {"kind": "eval", "step": 2, "top1": 0.5, "count": 10.0},
    {"kind": "test", "step": 2, "top1": 0.25, "count": 20.0},
]
EXPECTED = Outcome(ROWS, {0: [ALONE]})


def two_processes(rows=None, first=FIRST, second=SECOND):
    return Outcome(ROWS if rows is None else rows, {0: [first], 1: [second]})


def faults(found):
    return compare(EXPECTED, found, IMAGES, bound=1e-4)[1]


def changed_rows(number, **values):
    rows = copy.deepcopy(ROWS)
    rows[number] |= values
    return rows


def test_two_processes_that_share_every_batch_are_the_same_training_as_one():
    figures, wrong = compare(EXPECTED, two_processes(), IMAGES, bound=1e-4)
    assert wrong == []
    assert (figures["same_examples"], figures["loss_difference"]) == (8, 0.0)
    assert figures["accuracy"] == {"eval": 0.5, "test": 0.25}
    assert (figures["images"], figures["rows"], figures["writers"]) == (IMAGES, 4, [0])


def test_lives_of_a_run_follow_each_other_in_the_stream():
    early = {"reads": ALONE["reads"][:4], "rows": ALONE["rows"][:4], "writes": 1}
    late = {"reads": ALONE["reads"][4:], "rows": ALONE["rows"][4:], "writes": 1}
    assert faults(Outcome(ROWS, {0: [early, late]})) == []


def test_the_order_in_which_a_loader_looks_records_up_does_not_matter():
    shuffled = {**ALONE, "reads": ALONE["reads"][::-1]}
    assert merge([shuffled]) == merge([ALONE])


def test_an_example_that_two_processes_read_is_a_fault():
    _, wrong = merge([ALONE, {"reads": [[3, 0, 6]], "rows": ["d"], "writes": 0}])
    assert wrong == ["position 3 was read more than once"]


def test_a_record_that_was_read_but_not_trained_on_is_a_fault():
    _, wrong = merge([{**ALONE, "rows": ALONE["rows"][:-1]}])
    assert wrong == ["a process read 8 records and trained on 7"]


def test_gaps_surplus_and_other_examples_are_told_apart():
    stream, _ = merge([ALONE])
    other = {**stream, 4: (0, 5, "another image"), 8: (1, 0, "i")}
    del other[2]
    assert compare_streams(stream, other) == [
        "1 positions were not read, the first is 2",
        "1 positions are beyond the end of the run, the first is 8",
        "1 positions have another example, the first is 4",
    ]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (two_processes(changed_rows(1, loss=1.001)), "the losses differ by 1.0e-03, bound 1e-04"),
        (two_processes(changed_rows(2, top1=0.6)), '"eval 2": 0.6'),
        (two_processes(changed_rows(3, count=24.0)), "test 2 counted 24 images, expected 20"),
        (two_processes([*ROWS, ROWS[-1]]), "5 rows of metrics, expected each of 4 once"),
        (two_processes(ROWS[1:]), "3 rows of metrics, expected each of 4 once"),
        (two_processes(second={**SECOND, "writes": 1}), "written by processes [0, 1]"),
        (two_processes(first={**FIRST, "rows": list("abeX")}), "have another example"),
    ],
)
def test_differences_are_named(found, message):
    assert any(message in fault for fault in faults(found))


def test_a_difference_within_the_bound_is_reported_but_no_fault():
    rows = changed_rows(1, loss=1.00001)
    figures, wrong = compare(EXPECTED, two_processes(rows), IMAGES, bound=1e-4)
    assert wrong == []
    assert figures["loss_difference"] == pytest.approx(1e-5, rel=1e-3)


def test_in_float32_only_the_first_steps_have_to_agree():
    rows = [ROWS[0], {**ROWS[1], "loss": 1.1}, {**ROWS[2], "top1": 0.6}, ROWS[3]]
    figures, wrong = compare(EXPECTED, two_processes(rows), IMAGES, bound=1e-4, steps=1)
    assert wrong == []
    assert figures["loss_difference"] == pytest.approx(0.1)
    late = changed_rows(0, loss=2.1)
    assert compare(EXPECTED, two_processes(late), IMAGES, bound=1e-4, steps=1)[1]


def test_records_are_read_by_process_in_the_order_of_lives(tmp_path):
    for name, writes in (("0-0", 1), ("0-1", 2), ("1-0", 3)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"writes": writes}))
    assert read_records(tmp_path) == {0: [{"writes": 1}, {"writes": 3}], 1: [{"writes": 2}]}


def test_every_case_has_a_name_and_a_folder_of_its_own():
    assert Case((4, 2, 1), 1).name == "processes 4 then 2 then 1, devices 1, float64"
    assert len({case.slug for case in CASES}) == len(CASES)


@pytest.mark.exhaustive
def test_the_quick_mode_trains_with_one_and_two_processes(tmp_path, capsys):
    assert processes.main(["--quick", "--steps=2", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("quick-processes_*.json")
    one, two = json.loads(path.read_text())["runs"]
    assert (one["processes"], two["processes"]) == ([1], [2])
    assert two["same_examples"] == one["same_examples"] == 2 * 64
    assert two["images"] == {"eval": 144, "test": 360}
    assert "the same training" in capsys.readouterr().out
