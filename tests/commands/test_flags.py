"""The flags of train.py and its recipes."""

import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flax_resnet.commands.flags import config_name
from flax_resnet.errors import InputError
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse
from tests.hostile.settings import parse_words, setting

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/digits.py", "--config.data.batchsize=3"], "'batch_size'"),
        (["--config=configs/digits.py", "--config.data.batch_size=x"], "batch_size=x"),
        (["--config", "digits", "--config.data.batchsize=3"], "'batch_size'"),
        (["--config=configs/digit.py"], "configs/digits.py"),
        (["--config=digit"], "Did you mean 'digits'?"),
        ([], "--config"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_clear_error(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=re.escape(message)):
        parse_words(arguments)


def test_an_error_inside_a_config_names_file_and_line(tmp_path: Path) -> None:
    config = tmp_path / "broken.py"
    config.write_text("def get_config():\n    return undefined\n")
    command = [sys.executable, "train.py", f"--config={config}"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ")
    assert "broken.py, line 2: name 'undefined' is not defined" in finished.stderr
    assert "Traceback" not in finished.stderr


def names(config: object, prefix: str) -> list[str]:
    """Return the names of all settings and sections."""
    found = []
    for field in dataclasses.fields(config):
        name = f"{prefix}.{field.name}"
        inner = getattr(config, field.name)
        found += [name, *(names(inner, name) if dataclasses.is_dataclass(inner) else ())]
    return found


NAMES = names(TrainConfig(), "config")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, -1, 0, 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)  # fmt: skip
TEXTS = st.text(alphabet="()[]{},.0123456789-e'\"aN_ ", max_size=8) | st.sampled_from(
    ["None", "1e999", "nan", "(1,", '("a",)', "((1,),)", "(" * 500, "9" * 5000, "\udcff"]
)


@given(st.sampled_from(NAMES), VALUES)
@settings(max_examples=400)
def test_any_value_of_a_setting_gives_a_config_or_an_input_error(name: str, value: Any) -> None:
    for key in reversed(name.split(".")[1:]):
        value = {key: value}
    with contextlib.suppress(InputError):
        assert isinstance(parse(value), TrainConfig)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@given(
    name=st.sampled_from(NAMES) | st.text(max_size=6).map("config.".__add__),
    equals=st.sampled_from(["=", ""]),
    value=TEXTS,
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_argument_gives_a_config_or_an_input_error(
    tmp_path: Path, name: str, equals: str, value: str
) -> None:
    with contextlib.suppress(InputError):
        setting(f"--{name}{equals}{value}")(tmp_path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("configs/digits.py", "digits"),
        ("configs/rsb_a3.py:resnet18", "rsb_a3-resnet18"),
        ("finetune.py:/some where/weights", "finetune-some-where-weights"),
    ],
)
def test_a_run_is_named_after_its_recipe_and_argument(path: str, name: str) -> None:
    assert config_name(path) == name


@pytest.mark.slow
def test_the_program_trains_as_the_script_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flax_resnet", "train", "--config", "digits", "--json"]
    settings = [
        "--config.steps=1",
        "--config.data.train_split=train[:64]",
        "--config.model.name=mnist_resnet",
        "--noreport",
    ]
    finished = subprocess.run(
        [*command, *settings], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    facts = json.loads(finished.stdout)
    assert (facts["run"], facts["evaluation"]["step"]) == ("runs/digits", 1)
    assert (tmp_path / "runs" / "digits" / "metrics.jsonl").is_file()
