"""Publish a run on the Hugging Face hub: its weights, its class names and its model card."""

import os
import re
import tempfile
import warnings
from pathlib import Path

from flax_resnet.errors import InputError
from flax_resnet.export.formats import write_hub
from flax_resnet.export.network import as_function
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.report.card import write_card
from flax_resnet.training.networks import find_network
from flax_resnet.training.runs import restore
from flax_resnet.weights import find_published, list_pretrained
from flax_resnet.weights.hub import upload_folder
from flax_resnet.weights.published import OWNER, Published

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def push_to_hub(
    run: str | os.PathLike[str],
    repository: str,
    *,
    license: str | None = None,
    step: str | int = "best",
    average: bool = True,
    private: bool = False,
) -> str:
    """Upload a run to the hub, with a model card made from it, and return the address of its page.

    `load_pretrained("hub:OWNER/NAME")` and timm read it back. It needs a login (`hf auth login`).

    Args:
      run: the folder of a run.
      repository: `OWNER/NAME`; it is made if it does not exist.
      license: an identifier of the hub, such as `apache-2.0`; default: that of the published
        weights that the run started from.
      step, average: as in `restore`.
      private: make a new repository private.

    Raises:
      InputError: the folder is not a run, no license is known, or the hub refuses the upload.
    """
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "repository"
        write_repository(run, repository, folder, license=license, step=step, average=average)
        return upload_folder(folder, repository, private)


def write_repository(
    run: str | os.PathLike[str],
    repository: str,
    folder: Path,
    *,
    license: str | None = None,
    step: str | int = "best",
    average: bool = True,
) -> None:
    """Write what `push_to_hub` uploads to a folder: weights, class names, card, curves.

    Arguments and errors are those of `push_to_hub`.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(
            f"the repository is {repository!r}; expected OWNER/NAME, such as someone/photos"
        )
    origin = find_network(run)
    if origin.config is None:
        raise InputError(f"{os.fspath(run)} is not a run; expected the folder of one")
    base = _base(origin.config.model.pretrained)
    license = _license(license, base)
    predictor = open_predictor(os.fspath(run), step, average)
    write_hub(as_function(predictor, fold=False), folder, origin.description)
    found = restore(run, step, average=average)
    write_card(found, folder, repository, license, None if base is None else base.repository)


def _base(pretrained: str | None) -> Published | None:
    """Return the published weights that a run started from, if they are such."""
    name = (pretrained or "").removeprefix(OWNER)
    return find_published(name) if name in list_pretrained() else None


def _license(chosen: str | None, base: Published | None) -> str:
    found = chosen or (base and base.license)
    if not found or not _LICENSE.fullmatch(found):
        raise InputError(
            f"the license is {found!r}; expected an identifier of the hub, such as apache-2.0 "
            "(https://huggingface.co/docs/hub/repositories-licenses)"
        )
    if base is not None and base.non_commercial and found != base.license:
        warnings.warn(
            f"the run started from {base.name}, whose license {base.license} excludes commercial "
            f"use: check that you may publish it as {found}",
            stacklevel=3,
        )
    return found
