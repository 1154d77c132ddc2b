"""safetensors in the hub's form, which timm reads too."""

from __future__ import annotations

from pathlib import Path

from flax_resnet.errors import InputError
from flax_resnet.export.network import Exported
from flax_resnet.weights import Preprocessing, save_pretrained


def write_hub(network: Exported, folder: Path, architecture: str | None = None) -> None:
    """Write `model.safetensors` and `config.json` to a folder.

    Args:
      architecture: row of the table that the network was made from; None: the row that it equals.

    Raises:
      InputError: the network has no row, or the folder cannot be written to.
    """
    data = network.data
    images = Preprocessing(
        data.test_size,
        data.eval_crop,
        # timm knows these two; ours are nearer to the second.
        "bicubic" if data.interpolation in ("bicubic", "random") else "bilinear",
        data.mean,
        data.std,
    )
    try:
        save_pretrained(
            network.model,
            network.variables,
            folder,
            architecture=architecture,
            preprocessing=images,
        )
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror or error}") from None
