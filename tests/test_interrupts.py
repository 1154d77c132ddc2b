"""Ctrl-C and SIGTERM end a program with one line and status 75."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from flax_resnet.__main__ import main
from flax_resnet.commands import models
from flax_resnet.interrupts import LINE, SIGNALS, unwinding


@pytest.mark.parametrize(
    "program",
    [
        "from flax_resnet.interrupts import end_at_once; end_at_once(); {signal}",
        # As the installed command is loaded.
        "sys.argv = ['flax-resnet', 'models']; import flax_resnet.__main__; {signal}",
        # After everything is done.
        "sys.argv = ['flax-resnet', 'models', 'resnet18']\n"
        "import atexit; atexit.register(lambda: {signal})\n"
        "from flax_resnet.__main__ import program; program()",
    ],
    ids=["at first", "while it is loaded", "at last"],
)
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_program_ends_at_once_while_nothing_is_at_stake(program: str, number: str) -> None:
    raised = f"os.kill(os.getpid(), signal.{number})"
    code = "import os, signal, sys\n" + program.format(signal=raised)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (75, f"{LINE}\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_is_unwound(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    monkeypatch.setattr(models, "run", lambda args: signal.raise_signal(number))
    with pytest.raises(SystemExit, match="75"):
        main(["models"])
    assert capsys.readouterr().err == f"{LINE}\n"
    assert [signal.getsignal(each) for each in SIGNALS] == before


class Dropped:
    """Interrupts the program when it is deleted, where Python swallows exceptions."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.getpid()


def test_an_interrupt_in_a_destructor_is_not_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), unwinding():
        Dropped()
        time.sleep(10)
    assert capsys.readouterr().err == ""
