import json
import subprocess
import sys

import pytest

from benchmarks.proc import Holding, holding, session_processes
from tests.endurance import soak
from tests.endurance.soak import fit_line

MIB = 2**20


def samples(memory, files=lambda at: 7):
    """Return samples every 10 of 600 seconds; memory and files are functions of time."""
    return [
        (float(at), Holding(0, int(memory(at)), files(at), threads=9, processes=1))
        for at in range(0, 601, 10)
    ]


def judged(taken):
    return soak.judge(taken, memory_bound=0.02, count_bound=2)


def test_a_line_gives_growth_an_hour_and_over_its_length():
    line = fit_line([100.0, 110.0, 120.0, 130.0], [9.0, 10.0, 10.0, 11.0])
    assert line.per_hour == pytest.approx(0.06 * 3600)
    assert line.growth == pytest.approx(0.18)
    assert (line.lowest, line.highest) == (9.0, 11.0)


def test_a_line_needs_three_values():
    with pytest.raises(ValueError, match="found 2 at 2"):
        fit_line([0.0, 1.0], [1.0, 2.0])


def test_a_run_that_grows_only_while_it_warms_up_is_flat():
    result = judged(samples(lambda at: 100 * MIB + min(at, 200) * MIB))
    assert result["faults"] == []
    assert result["window_s"] == 400.0


def test_memory_that_keeps_growing_is_a_fault():
    (fault,) = judged(samples(lambda at: 100 * MIB * (1 + at / 6000)))["faults"]
    assert fault == "memory grows by 6.3%, more than 2.0%"


def test_files_that_come_and_go_with_saves_are_flat_but_a_leak_is_not():
    assert judged(samples(lambda at: MIB, lambda at: 29 if at % 50 == 0 else 7))["faults"] == []
    (fault,) = judged(samples(lambda at: MIB, lambda at: 7 + at // 50))["faults"]
    assert fault.startswith("files change by +4")


def test_a_process_holds_memory_and_files_of_its_own():
    program = (
        "import sys; kept = [open('/dev/null') for _ in range(20)]; print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        child.stdout.readline()
        assert session_processes(child.pid) == [child.pid]
        held = holding([child.pid])
        child.communicate(b"\n")
    assert held.files >= 23
    assert 0 < held.own_bytes < held.resident_bytes
    assert (held.threads, held.processes) == (1, 1)
    assert session_processes(child.pid) == []
    assert holding([child.pid]) == Holding(0, 0, 0, 0, 0)


@pytest.mark.exhaustive
def test_the_quick_mode_samples_a_run(tmp_path, capsys):
    assert soak.main(["--quick", "--minutes", "0.2", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("quick-soak-0-workers_*.json")
    result = json.loads(path.read_text())
    assert result["steps"] > 20
    assert result["lines"]["own_bytes"]["lowest"] > 50 * MIB
    assert "own memory" in capsys.readouterr().out
