"""Write docs/weights.md: all published weights with sizes, accuracy, license and papers.

    python -m tools.weights_page

Names, sizes, origins and licenses come from `flax_resnet/weights/published.tsv`, accuracies from
`flax_resnet/weights/accuracies.tsv`, and counts from `flax_resnet/models/counts.tsv`.
"""

import csv
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

from flax_resnet.commands.models import COUNTS
from flax_resnet.weights.accuracies import Accuracy
from flax_resnet.weights.published import Published, find_published, list_pretrained

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "weights.md"
_INTRODUCTION = """# Weights

All {count} published weights that `load_pretrained` knows by name. `python -m tools.weights_page`
writes this page. The weights are downloaded from the Hugging Face hub (`timm/NAME`) by its own
client; each repository's page has the authoritative license.

```
python -m flax_resnet models 'resnet50*'            # names, parameters, multiply-adds
python -m flax_resnet models --weights resnet50     # the tables below; --json for programs
python -m flax_resnet predict resnet50.a1_in1k photo.jpg
python -m flax_resnet eval resnet50.a1_in1k --data tfds:imagenet2012
```

Every command and `load_pretrained` also take a run, a file, a folder that `save_pretrained` wrote,
and `hub:OWNER/NAME` for another repository of the hub (`timm/NAME` needs no `hub:`). Any other name
with a slash is a path: if it does not exist, nothing is looked up, and the error names what is
near.

`load_pretrained(name, num_classes=100)` gives the network a new head, `num_classes=0` removes it,
and `in_channels=1` adapts the first convolution.

```python
import flax_resnet

model, variables = flax_resnet.load_pretrained("resnet18.a1_in1k")
preprocess = flax_resnet.preprocessing("resnet18.a1_in1k")
logits = model.apply(variables, preprocess(["photo.jpg", "photo.jpg"]))  # (2, 1000)
names = flax_resnet.class_names("resnet18.a1_in1k")
classifier = flax_resnet.Classifier("resnet18.a1_in1k")  # the four lines above, in batches
assert classifier("photo.jpg", top=5)[0][0] in names
```

All of them take a published name, a file, a folder or a run. Images are paths, the bytes of files,
Pillow images or uint8 arrays; one image is a batch of one for `preprocess`, and has one list of
classes from `Classifier`. `preprocess` has its numbers under the names of `DataConfig`:
`image_size`, `channels`, `eval_crop`, `interpolation`, `mean` and `std`. Heads of ImageNet-1k, -12k
and -21k have class names. Evaluation, prediction, serving and export use the test size;
`--train-size`, and `preprocessing(name, train_size=True)`, choose the input size of training.

## Size, origin, license

Parameters and multiply-adds (GMACs, of convolutions and matrices) are those of the network with its
usual head, for an image of the pixels in brackets; `summary NAME --image-size 288` counts them for
another. **Input** and **test** are the sizes of images in training and evaluation. **Papers** are
those of the network and, after the semicolon, of its training.

{facts}

## Accuracy

In percent, on images of the input size of training and of the test size. timm measured all of it,
with the crop and the interpolation that evaluation uses at this size
(`results/results-imagenet*.csv` in
[its repository](https://github.com/huggingface/pytorch-image-models), Apache-2.0, copied on
2026-11-28); we have not repeated it. **Top-1** and **top-5** are those of ImageNet's 50,000
validation images. The others are top-1: [ReaL](https://arxiv.org/abs/2006.07159) has other labels
for the same images, [V2](https://arxiv.org/abs/1902.10811) new images,
[A](https://arxiv.org/abs/1907.07174) images that a ResNet-50 gets wrong,
[R](https://arxiv.org/abs/2006.16241) art and toys, and
[Sketch](https://arxiv.org/abs/1905.13549) drawings. A and R have 200 of the classes. Weights whose
classes are not ImageNet's 1,000 are missing here; "-" means that no result is published.

{accuracies}
"""
_FACTS = ("name", "parameters", "GMACs", "input", "test", "origin", "license", "papers (arXiv)")
_ACCURACIES = ("name", "pixels", "top-1", "top-5", "ReaL", "V2", "A", "R", "Sketch")
# The first prefix that fits counts.
_NETWORKS = {
    "resnetv2_50d_evos": "2004.02967",
    "resnetv2_50d_gn": "1803.08494",
    "resnet50_gn": "1803.08494",
    "densenet": "1608.06993",
    "ecaresnet": "1910.03151",
    "res2ne": "1904.01169",
    "resnest": "2004.08955",
    "resnetaa": "1904.11486",
    "resnetblur": "1904.11486",
    "resnetrs": "2103.07579",
    "resnetv2": "1603.05027",
    "resnext": "1611.05431",
    "senet": "1709.01507",
    "seresne": "1709.01507",
    "sk": "1903.06586",
    "wide_resnet": "1605.07146",
    "": "1512.03385",
}
_TRAININGS = {
    "fb_s": "1905.00546",
    "fb_wsl": "1805.00932",
    "goog_in21k": "1912.11370",
    "goog_": "2106.05237",
    "gluon": "1812.01187",
    "bamboo": "2203.07845",
    "bt_": "1812.01187",
    "am_": "1912.02781",
    **dict.fromkeys(("a1_", "a1h_", "a2_", "a3_", "b1k_", "b2k_"), "2110.00476"),
    **dict.fromkeys(("c1_", "c2_", "c3_", "d_in1k"), "2110.00476"),
    **dict.fromkeys(("ra_", "ra2_"), "1909.13719"),
}


def page() -> str:
    """Return the page, in Markdown."""
    weights = [find_published(name) for name in list_pretrained()]
    return _INTRODUCTION.format(
        count=len(weights),
        facts=_table(_FACTS, map(_facts, weights)),
        accuracies=_table(_ACCURACIES, (row for each in weights for row in _accuracies(each))),
    )


def papers(name: str) -> str:
    """Return links to the papers of a network and of its training."""
    network, _, tag = name.partition(".")
    numbers = [_first(_NETWORKS, network), _first(_TRAININGS, tag)]
    return "; ".join(f"[{n}](https://arxiv.org/abs/{n})" for n in dict.fromkeys(numbers) if n)


def _first(table: dict[str, str], name: str) -> str:
    return next((paper for prefix, paper in table.items() if name.startswith(prefix)), "")


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (header, ("---",) * len(header), *rows)
    )


def _facts(weights: Published) -> tuple[str, ...]:
    counts = _counts()[weights.architecture]
    return (
        f"`{weights.name}`",
        f"{int(counts['parameters']) / 1e6:.2f} M",
        f"{int(counts['macs']) / 1e9:.2f} ({counts['image_size']})",
        *(str(weights.preprocessing(train_size).image_size) for train_size in (True, False)),
        weights.origin,
        weights.license or "not stated",
        papers(weights.name),
    )


@functools.cache
def _counts() -> dict[str, dict[str, str]]:
    rows = csv.DictReader(COUNTS.read_text("utf-8").splitlines(), delimiter="\t")
    return {row["name"]: row for row in rows}


def _accuracies(weights: Published) -> Iterator[tuple[str, ...]]:
    """Yield the accuracies at the input size of training and at the test size."""
    for found in dict.fromkeys(weights.accuracy(train_size) for train_size in (True, False)):
        if found is not None:
            yield f"`{weights.name}`", str(found.image_size), *_percentages(found)


def _percentages(found: Accuracy) -> Iterator[str]:
    for key in ("top1", "top5", "real", "v2", "a", "r", "sketch"):
        percent = getattr(found, key)
        yield "-" if percent is None else f"{percent:.2f}"


if __name__ == "__main__":
    PAGE.write_text(page())
