"""Communication between devices: the quick mode, and that it is little more than the gradient."""

import json

import pytest

from benchmarks.trainer import scaling


@pytest.mark.exhaustive
def test_the_quick_mode_measures_what_devices_sum(tmp_path, capsys):
    assert scaling.main(["--quick", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("quick-scaling_*.json")
    cases = {
        (case["norm"], case["devices"]): case for case in json.loads(path.read_text())["cases"]
    }
    assert set(cases) == {(norm, count) for norm in scaling.NORMS for count in (1, 8)}
    assert cases["global", 1]["bytes"] == cases["per device", 1]["bytes"] == 0
    # Every parameter's gradient is summed; the statistics of norms are small in comparison.
    for norm in scaling.NORMS:
        assert 1 <= cases[norm, 8]["over_parameters"] < 1.1
        assert set(cases[norm, 8]["collectives"]) == {"all-reduce"}
        ring = cases[norm, 8]["ring_bytes_a_device"]
        assert ring == pytest.approx(1.75 * cases[norm, 8]["bytes"])
    assert cases["per device", 8]["bytes"] < cases["global", 8]["bytes"]
    assert all(case["images_per_second"] is None for case in cases.values())
    assert "norm per device" in capsys.readouterr().out
