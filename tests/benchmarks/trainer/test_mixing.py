import json

import pytest

from benchmarks.trainer import mixing


@pytest.mark.exhaustive
def test_the_quick_mode_reports_the_share_of_every_part(tmp_path, capsys):
    assert mixing.main(["--quick", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("quick-mixing_*.json")
    (case,) = json.loads(path.read_text())["cases"]
    parts = {f"images: {name}" for name in mixing.MIXINGS if name != "none"}
    assert parts < set(case["shares"])
    assert set(case["shares"]) < set(case["milliseconds"])
    assert all(timing["median"] > 0 for timing in case["milliseconds"].values())
    assert "of the step" in capsys.readouterr().out
