"""A fingerprint is the same for the same code and values, and another one for others."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.training.fingerprint import fingerprint

SCALE = 2


def scaled(x: float) -> float:
    return SCALE * x


def through(x: float) -> float:
    return scaled(x) + 1


def made(number: Any) -> Any:
    def inner(x: Any) -> Any:
        return x + number

    return inner


class Net(nn.Module):
    width: Any = 3

    def __call__(self, x: Any) -> Any:
        return nn.Dense(self.width)(x)


class Thing:
    def __init__(self, value: Any) -> None:
        self.value = value


MAKERS = {
    "closure": made,
    "partial": lambda value: functools.partial(made, value),
    "optax": optax.adamw,
    "chain": lambda value: optax.chain(optax.clip(value), optax.sgd(0.1)),
    "schedule": lambda value: optax.sgd(optax.linear_schedule(1.0, 0.0, value)),
    "network": Net,
    "array": lambda value: Net(jnp.array([value])),
    "object": lambda value: Thing({"a": [value, {1, 2}]}),
    "numpy": lambda value: Thing(np.arange(value)),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_equal_values_have_equal_fingerprints_and_others_do_not(make: Any) -> None:
    assert fingerprint(make(3)) == fingerprint(make(3))
    assert fingerprint(make(3)) != fingerprint(make(4))


def test_a_change_of_a_value_that_a_function_refers_to_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = fingerprint(through)
    assert "test_fingerprint.through " in before
    monkeypatch.setitem(globals(), "SCALE", 3)
    assert fingerprint(through) != before


def test_other_code_is_seen_and_comments_are_not() -> None:
    def compiled(source: str) -> Any:
        names: dict[str, Any] = {"__name__": "mine"}
        exec(source, names)
        return names["f"]

    first = fingerprint(compiled("def f(x):\n    return x + 1\n"))
    assert first == fingerprint(compiled("# why\ndef f(x):\n    # how\n    return x + 1\n"))
    assert first != fingerprint(compiled("def f(x):\n    return x + 2\n"))
    assert first != fingerprint(compiled("def f(x):\n    return x - 1\n"))
    for decorator in ("", "@property", "@staticmethod", "@classmethod"):
        kind = f"class f:\n    'A class.'\n    {decorator}\n    def g(*_):\n        return {{}}\n"
        one, other = (fingerprint(compiled(kind.format(number))) for number in (1, 2))
        assert one != other
        assert one == fingerprint(compiled("\n\n" + kind.format(1)))


def test_an_object_that_contains_itself_has_one() -> None:
    thing = Thing(1)
    thing.value = [thing]
    assert fingerprint(thing) == fingerprint(thing)
