"""The names of classes: which are the same, and examples numbered by another list of them."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from flax_resnet.data.sources.source import Example, Source, has_several_labels
from flax_resnet.errors import InputError, printable

# A spreadsheet writes the class 1 as 1.0 where another cell of the column is empty.
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")


def without_fraction(name: str) -> str:
    """Return the name `1` for `1.0`, and every other name as it is."""
    found = _WHOLE_NUMBER.fullmatch(name)
    return found[1] if found else name


def same_name(name: str) -> str:
    """Return a form in which similar names are equal: `Café` and `café`, 1 and 1.0.

    Systems store accents in different Unicode forms, and some do not tell cases apart.
    """
    return without_fraction(_folded(name))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def check_distinct(names: Iterable[str], where: str) -> None:
    """Raise `InputError` if the names of two classes differ only in case or Unicode form.

    Args:
      where: the names are from, for the error.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        alike[_folded(name)].append(name)
    for group in alike.values():
        if len(group) > 1:
            form = len({name.casefold() for name in group}) > 1
            # Equal on the screen: the escapes show what differs.
            shown = [ascii(name) if form else repr(name) for name in group]
            raise InputError(
                f"{printable(where)} has the classes {' and '.join(shown)}, whose names differ "
                f"only in {'the Unicode form of a letter' if form else 'case'}; expected one name "
                "for each class. Put their images together, or give one of them another name."
            )


@dataclass(frozen=True)
class Relabeled:
    """The examples of a source, with labels that number the classes of another list."""

    source: Source
    places: tuple[int, ...]
    """The number in `class_names` of each class of `source`."""
    class_names: tuple[str, ...]
    named: bool = True

    @property
    def name(self) -> str:
        """Return the name of the source."""
        return self.source.name

    @property
    def num_classes(self) -> int:
        """Return the number of classes of the list."""
        return len(self.class_names)

    @property
    def several_labels(self) -> bool:
        """Return whether labels are tuples."""
        return has_several_labels(self.source)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        """Return an example."""
        example = self.source[index]
        label = example["label"]
        if isinstance(label, tuple):
            return {"image": example["image"], "label": tuple(map(self._place, label))}
        return {"image": example["image"], "label": self._place(int(label))}

    def _place(self, label: int) -> int:
        # The loader reports labels outside of the source's classes.
        return self.places[label] if 0 <= label < len(self.places) else -1

    def describe(self, index: int) -> str:
        """Return the origin of an example."""
        return self.source.describe(index)

    def place(self, index: int) -> str:
        """Return the place of an example in its data."""
        return self.source.place(index)
