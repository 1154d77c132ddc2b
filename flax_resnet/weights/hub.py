"""Download files from the Hugging Face hub, and upload them, with its own client.

The client manages the cache and obeys its usual settings: `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`,
`HF_HUB_OFFLINE`. Files in the cache need no connection.
"""

import importlib.util
from pathlib import Path

from flax_resnet.errors import InputError
from flax_resnet.hub import explained

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
# The only weights of some older repositories; reading them needs torch.
TORCH_WEIGHTS = "pytorch_model.bin"


def download_config(repository: str, revision: str | None = None) -> Path:
    """Return the path of a repository's `config.json`, downloaded unless it is in the cache.

    Args:
      repository: `owner/name`.
      revision: a branch, a tag or a commit; default: the main branch.

    Raises:
      InputError: the hub cannot be reached, or the repository, revision or file does not exist.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return _fetch(repository, CONFIG, revision)
    except LocalEntryNotFoundError as error:
        raise InputError(_unreachable(repository, error)) from error
    except EntryNotFoundError as error:
        raise InputError(
            f"the repository {repository} has no {CONFIG}, which names the architecture: download "
            "its weights and pass the file, with model= to name the architecture"
        ) from error


def download_weights(repository: str, revision: str | None = None) -> Path:
    """Return the path of a repository's weights, downloaded unless they are in the cache.

    They are `model.safetensors`, or `pytorch_model.bin` if torch is installed. Arguments
    and errors are those of `download_config`.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return _fetch(repository, WEIGHTS, revision)
    except LocalEntryNotFoundError as error:
        try:
            return _fetch(repository, TORCH_WEIGHTS, revision, cached=True)
        except EntryNotFoundError:
            raise InputError(_unreachable(repository, error)) from error
    except EntryNotFoundError as error:
        if importlib.util.find_spec("torch") is None:
            raise InputError(
                f"the repository {repository} has no {WEIGHTS}, and reading {TORCH_WEIGHTS} needs "
                "torch: install it (pip install torch), or choose another repository"
            ) from error
    try:
        return _fetch(repository, TORCH_WEIGHTS, revision)
    except EntryNotFoundError as error:
        raise InputError(
            f"the repository {repository} has neither {WEIGHTS} nor {TORCH_WEIGHTS}: check that it "
            "is an image model. Other files can be downloaded and passed by their path"
        ) from error


def upload_folder(folder: Path, repository: str, private: bool = False) -> str:
    """Upload the files of a folder in one commit and return the address of the repository.

    Args:
      repository: `owner/name`; it is made if it does not exist.
      private: make a new repository private.

    Raises:
      InputError: the hub cannot be reached, or refuses the upload.
    """
    from huggingface_hub import HfApi, constants, errors

    api, page = HfApi(library_name="flax_resnet"), f"{constants.ENDPOINT}/{repository}"
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload a run of flax_resnet"
        )
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = "try again" if status >= 500 else "check the name, which is OWNER/NAME"
        if status in (401, 403):
            advice = f"log in with `hf auth login`, with a token that may write to {repository}"
        raise InputError(
            f"{page} refuses the upload ({error.server_message or status}): {advice}"
        ) from error
    except errors.HFValidationError as error:
        raise InputError(
            f"{repository!r} is not the name of a repository: expected owner/name"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise InputError("the hub's client is set to work offline: unset HF_HUB_OFFLINE") from error
    except Exception as error:  # The client's HTTP library depends on its version.
        raise InputError(
            f"uploading to {page} failed ({type(error).__name__}: {error}): try again"
        ) from error
    return page


def _fetch(repository: str, name: str, revision: str | None, cached: bool = False) -> Path:
    """Return a file's path in the cache; raise `EntryNotFoundError` if the hub does not have it."""
    from huggingface_hub import hf_hub_download

    with explained(repository, name, revision):
        path = hf_hub_download(
            repository,
            name,
            revision=revision,
            library_name="flax_resnet",
            local_files_only=cached,
        )
    return Path(path)


def _unreachable(repository: str, error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error.__cause__, OfflineModeIsEnabled):
        state, advice = "the hub's client is set to work offline", "unset HF_HUB_OFFLINE"
    else:
        state, advice = f"{constants.ENDPOINT} cannot be reached", "connect to a network"
    return (
        f"{state}, and this revision of {repository} is not in the cache "
        f"({constants.HF_HUB_CACHE}): {advice}, or download the files elsewhere "
        "and pass their path"
    )
