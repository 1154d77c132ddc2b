"""A name in the config opens a source."""

from __future__ import annotations

import pytest

from flax_resnet.data import DataConfig, open_source
from flax_resnet.errors import InputError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("foldr:images", "expected one of csv, digits, folder, .* Did you mean 'folder'"),
        ("digits:train", "expected 'digits' alone"),
        ("synthetic:many", "expected a number of classes"),
        ("synthetic:0", "expected a number of classes"),
        ("tfds:", "expected a name"),
        ("folder:", "which is not a folder"),
        ("folder:no/such/place", "which is not a folder; expected PATH/train/CLASS"),
    ],
)
def test_an_invalid_name_is_an_error(name, message):
    with pytest.raises(InputError, match=message):
        open_source(DataConfig(source=name), "train")
