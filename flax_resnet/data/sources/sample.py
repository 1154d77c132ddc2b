"""Some examples of a source, evenly spread over it."""

from dataclasses import dataclass

import numpy as np

from flax_resnet.data.sources.source import Example, Source, has_several_labels


@dataclass(frozen=True)
class Sample:
    """Some examples of a source."""

    source: Source
    places: tuple[int, ...]

    @classmethod
    def of(cls, source: Source, most: int) -> "Sample":
        """Return at most so many examples, evenly spread over the source."""
        spread = np.linspace(0, len(source), min(len(source), most), endpoint=False)
        return cls(source, tuple(spread.astype(int).tolist()))

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self.source.name

    @property
    def num_classes(self) -> int:
        """Return the source's number of classes."""
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the source's names of classes."""
        return self.source.class_names

    @property
    def named(self) -> bool:
        """Return whether the source's classes have names."""
        return self.source.named

    @property
    def several_labels(self) -> bool:
        """Return whether an example has several labels."""
        return has_several_labels(self.source)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        """Return an example."""
        return self.source[self.places[index]]

    def describe(self, index: int) -> str:
        """Return the origin of an example."""
        return self.source.describe(self.places[index])

    def place(self, index: int) -> str:
        """Return where an example is in the data."""
        return self.source.place(self.places[index])
