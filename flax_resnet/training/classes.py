"""Classes of data that a trained network meets: they are matched by name."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from flax_resnet.data import MaskSource, Source
from flax_resnet.data.sources.classes import Relabeled, same_name
from flax_resnet.errors import InputError, shortened
from flax_resnet.training.checks import check_classes
from flax_resnet.weights import imagenet_class, imagenet_classes


def for_outputs(source: Source, names: tuple[str, ...], outputs: int, network: str) -> Source:
    """Return the source with its labels numbered as a network's outputs.

    Args:
      names: of the network's classes; () where they are not known.
      network: its name, for errors.

    Raises:
      InputError: the network does not know a class of the source.
    """
    if source.class_names == names:
        check_classes(source, outputs)
        return source
    places = class_outputs(source, names, outputs, network)
    if places == tuple(range(len(names or places))):
        return source
    if isinstance(source, MaskSource):
        raise InputError(
            f"{source.name} has the classes {shortened(source.class_names)} and {network} has "
            f"{shortened(names)}; expected the same classes in the same order. See "
            "config.data.masks.class_names and config.data.masks.values"
        )
    return Relabeled(source, places, names or tuple(map(str, range(outputs))))


def check_same_classes(source: Source, before: Sequence[str], where: str) -> None:
    """Raise `InputError` if the data of a run have other classes than when it began.

    Args:
      before: their names when it began.
      where: the run is stored, for the error.
    """
    if [same_name(name) for name in source.class_names] != [same_name(name) for name in before]:
        raise InputError(
            f"{where} has a run of the classes {shortened(before)}, and {source.name} now has "
            f"{shortened(source.class_names)}; expected the same. Put the data back as they were, "
            "or use another --workdir: config.model.pretrained can start from these weights"
        )


def class_outputs(
    source: Source, names: tuple[str, ...], outputs: int, network: str
) -> tuple[int, ...]:
    """Return the output of a network for each class of a source.

    The network may know more classes than the source has. Where one of both has no names, their
    numbers of classes must be equal, and the order is taken to be the same.

    Arguments and errors are those of `for_outputs`.
    """
    if source.class_names == names:
        return tuple(range(source.num_classes))
    if not names or not source.named:
        if source.num_classes != (len(names) or outputs):
            nameless = network if not names else source.name
            raise InputError(
                f"{source.name} has {source.num_classes} classes and {network} has "
                f"{len(names) or outputs}; expected the same number, since the classes of "
                f"{nameless} have no names to match them by. Use data with the same classes, or "
                "fine-tune the network on this data (config.model.pretrained)"
            )
        return tuple(range(source.num_classes))
    found = matching(source.class_names, names)
    known = [place for place in found if place is not None]
    if len(known) < len(found):
        lost = [n for n, place in zip(source.class_names, found, strict=True) if place is None]
        raise _unknown(lost, source, names, network)
    if len(set(known)) < len(known):
        twice = next(place for place in known if known.count(place) > 1)
        same = [n for n, place in zip(source.class_names, known, strict=True) if place == twice]
        raise InputError(
            f"{source.name} has the classes {shortened(same)}, which are one class of {network}: "
            f"{names[twice]!r}. Put their images together"
        )
    return tuple(known)


def matching(own: tuple[str, ...], names: tuple[str, ...]) -> list[int | None]:
    """Return the place in `names` of each of `own`; None for a name that is not in it.

    Equal names match first, then those that differ in case or Unicode form, then names of one
    class of ImageNet: its WordNet number, its words, or its place where all have their places.
    """
    forms: list[Callable[[str], object]] = [str, same_name]
    tables = [_places(names, form) for form in forms]
    numbers = _imagenet_numbers(names)
    if all(number is not None for number in numbers):
        every = {str(at) for at in range(len(imagenet_classes()))}
        forms.append(int if set(own) == every else imagenet_class)
        tables.append({number: at for at, number in enumerate(numbers)})
    found: list[int | None] = []
    for name in own:
        known = (table.get(form(name)) for form, table in zip(forms, tables, strict=True))
        found.append(next((place for place in known if place is not None), None))
    return found


def _places(names: Iterable[str], form: Callable[[str], object]) -> dict[object, int]:
    """Return the place of each form that one name alone has."""
    places: dict[object, list[int]] = defaultdict(list)
    for at, name in enumerate(names):
        places[form(name)].append(at)
    return {key: found[0] for key, found in places.items() if len(found) == 1}


def _imagenet_numbers(names: tuple[str, ...]) -> Sequence[int | None]:
    whole = imagenet_classes()
    return range(len(whole)) if names == whole else [imagenet_class(name) for name in names]


def _unknown(lost: list[str], source: Source, names: tuple[str, ...], network: str) -> InputError:
    what = f"the class {lost[0]!r}" if len(lost) == 1 else f"{len(lost)} classes"
    return InputError(
        f"{source.name} has {what} that {network} does not know: {shortened(lost)}. The data have "
        f"{shortened(source.class_names)}; the network knows {shortened(names)}. Classes are "
        "matched by name: rename those of the data, leave them out, or fine-tune the network on "
        "this data (config.model.pretrained)"
    )
