"""`python -m flax_resnet summary`: a network part by part."""

import pytest

from flax_resnet.__main__ import main


def test_every_part_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "resnet18", "--image-size", "224"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {line[0]: line[1:] for line in lines if line}
    assert " ".join(rows["stem"]) == "112 x 112 x 64 9,536 118,013,952 6.1 7 2"
    assert " ".join(rows["layer4"]) == "7 x 7 x 512 8,393,728 411,041,792 1.0 435 32"
    assert " ".join(rows["head"]) == "1000 513,000 512,000 0.0"
    assert " ".join(rows["all"]) == "11,689,512 1,814,073,344 19.0"
    assert "9,600" in rows["batch"]  # statistics


def test_classes_size_and_precision_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--image-size", "64", "--num-classes", "10", "--dtype", "bfloat16"]
    assert main(["summary", "cifar_resnet20", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "64 x 64 pixels" in printed
    assert "in bfloat16" in printed


def test_an_unknown_network_is_an_error_with_similar_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["summary", "resnet5"])
    assert "Did you mean 'resnet50'" in capsys.readouterr().err
