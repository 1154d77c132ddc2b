"""A folder belongs to one run at a time, which errors name."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flax_resnet.errors import InputError
from flax_resnet.training.workdir import claimed_workdir

Configs = Callable[..., Any]
HOLD = """
import sys, time
from pathlib import Path
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.workdir import claimed_workdir
with claimed_workdir(Path(sys.argv[1]), TrainConfig()):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_run_is_told_who_holds_the_folder(tiny_config: Configs, tmp_path: Path) -> None:
    config = tiny_config()
    with claimed_workdir(tmp_path, config):
        owner = rf"another run is in .*: process {os.getpid()} on host {socket.gethostname()}"
        with pytest.raises(InputError, match=owner), claimed_workdir(tmp_path, config):
            pass
    with claimed_workdir(tmp_path, config):
        pass


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    from flax_resnet.training.config import TrainConfig

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"process {holder.pid} on host"):
        claimed_workdir(tmp_path, TrainConfig()).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with claimed_workdir(tmp_path, TrainConfig()):
        pass


def test_a_part_that_failed_before_the_first_checkpoint_can_be_mended(
    tiny_config: Configs, tmp_path: Path
) -> None:
    config = tiny_config()
    for part in ("hinge 1", "hinge 2"):
        with claimed_workdir(tmp_path, config, parts={"loss": part}):
            assert json.loads((tmp_path / "parts.json").read_text()) == {"loss": part}
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    with pytest.raises(InputError, match="loss: hinge 2 before, hinge 3 now"):
        claimed_workdir(tmp_path, config, parts={"loss": "hinge 3"}).__enter__()


def test_a_refused_claim_changes_nothing(tiny_config: Configs, tmp_path: Path) -> None:
    with claimed_workdir(tmp_path, tiny_config()):
        before = (tmp_path / "config.json").read_text()
    with pytest.raises(InputError, match="seed: 0 before, 1 now"):
        claimed_workdir(tmp_path, tiny_config(seed=1)).__enter__()
    assert (tmp_path / "config.json").read_text() == before


def written(workdir: Path, config: Any, changes: dict[str, Any]) -> None:
    """Write the `config.json` of an older version, with some settings different or missing."""
    values = config.to_dict()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if value is None:
            del values[section][name]
        else:
            values[section][name] = value
    (workdir / "config.json").write_text(json.dumps(values))


def test_a_run_of_an_older_version_continues(tiny_config: Configs, tmp_path: Path) -> None:
    config = tiny_config(data__sizes=[])
    missing = {"data.sizes": None, "data.follow_links": None, "model.pretrained": None}
    written(tmp_path, config, missing)
    with claimed_workdir(tmp_path, config):
        pass


def test_a_run_with_earlier_names_of_mask_settings_continues(
    tiny_config: Configs, tmp_path: Path
) -> None:
    config = tiny_config(data__source="masks:cells", data__masks={"elastic": 1.0, "values": [0, 9]})
    earlier = {"data.masks": None, "data.elastic": 1.0, "data.mask_values": [0, 9]}
    written(tmp_path, config, earlier)
    with claimed_workdir(tmp_path, config):
        pass
    written(tmp_path, config, earlier | {"data.elastic": 2.0})
    with pytest.raises(InputError, match=r"config\.data\.masks\.elastic: 2\.0 before, 1\.0 now"):
        claimed_workdir(tmp_path, config).__enter__()


def test_a_setting_that_an_older_run_lacks_had_its_default(
    tiny_config: Configs, tmp_path: Path
) -> None:
    config = tiny_config(data__sizes=[[1.0, 16]], steps=9)
    written(tmp_path, config, {"data.sizes": None, "data.follow_links": None})
    expected = r"settings:\n  config\.data\.sizes: \[\] before, \[\[1\.0, 16\]\] now\nUse"
    with pytest.raises(InputError, match=expected):
        claimed_workdir(tmp_path, config).__enter__()


@pytest.mark.parametrize(("name", "reads_it"), [("sgd", False), ("lars", False), ("adamw", True)])
def test_an_epsilon_that_the_optimizer_does_not_read_may_change(
    tiny_config: Configs, tmp_path: Path, name: str, reads_it: bool
) -> None:
    config = tiny_config(optimizer__name=name)
    written(tmp_path, config, {"optimizer.epsilon": 1e-8})
    refused = pytest.raises(InputError, match=r"optimizer\.epsilon: 1e-08 before, None now")
    with refused if reads_it else contextlib.nullcontext(), claimed_workdir(tmp_path, config):
        pass


def test_a_damaged_config_is_named(tiny_config: Configs, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        claimed_workdir(tmp_path, tiny_config()).__enter__()


@pytest.mark.parametrize("folder", ["/proc/run", "/dev/null/run"])
def test_a_folder_that_cannot_be_written_to_is_an_error(tiny_config: Configs, folder: str) -> None:
    with pytest.raises(InputError, match=r"cannot be written to: .*another --workdir"):
        claimed_workdir(Path(folder), tiny_config()).__enter__()
