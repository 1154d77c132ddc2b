"""Where the recipes lie: beside the package in a checkout, inside it where it is installed."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def recipes() -> dict[str, Path]:
    """Return the file of each recipe by its name, sorted."""
    installed = _PACKAGE / "recipes"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def recipe_file(path: str) -> str:
    """Return the file that `path` means, argument behind its colon included.

    Args:
      path: a file, or the name of a recipe.
    """
    name, colon, argument = path.partition(":")
    return f"{recipes().get(name, name)}{colon}{argument}"
