"""The errors of the Hugging Face hub's client, in words for a person.

The client manages the cache and obeys its usual settings: `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`,
`HF_HUB_OFFLINE`.
"""

import contextlib
from collections.abc import Iterator

from flax_resnet.errors import InputError


@contextlib.contextmanager
def explained(repository: str, what: str, revision: str | None, folder: str = "") -> Iterator[None]:
    """Turn the client's errors in the block into an `InputError`, but not `EntryNotFoundError`.

    Args:
      repository: `owner/name`.
      what: is downloaded, for the message.
      folder: where the hub's pages of this kind of repository are: "datasets/", or "" for models.
    """
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{folder}{repository}"
    try:
        yield
    except errors.EntryNotFoundError:
        raise
    except errors.GatedRepoError as error:
        reason = f"{page} is gated: ask for access on that page, then log in with `hf auth login`"
        raise InputError(reason) from error
    except errors.RepositoryNotFoundError as error:
        reason = (
            f"the repository {page} does not exist, or it is private: check its name "
            "(owner/name), or log in with `hf auth login`"
        )
        raise InputError(reason) from error
    except errors.RevisionNotFoundError as error:
        reason = f"{page} has no revision {revision!r}: expected a branch, a tag or a commit of it"
        raise InputError(reason) from error
    except errors.HFValidationError as error:
        reason = f"{repository!r} is not the name of a repository: expected owner/name"
        raise InputError(reason) from error
    except Exception as error:  # The client's HTTP library depends on its version.
        reason = (
            f"downloading {what} from {page} failed ({type(error).__name__}: {error}): try again"
        )
        raise InputError(reason) from error
