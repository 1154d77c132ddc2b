"""Write docs/weights.md: all published weights with sizes, accuracy, license and papers.

    python -m tools.weights_page

Names, sizes and licenses come from `flax_resnet/weights/published.tsv`, accuracies from
`tools/imagenet_top1.tsv`.
"""

import csv
import functools
from pathlib import Path

from flax_resnet.weights.published import Published, find_published, list_pretrained

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "weights.md"
TOP1 = ROOT / "tools" / "imagenet_top1.tsv"
_INTRODUCTION = """# Weights

All {count} published weights that `load_pretrained` knows by name. `python -m tools.weights_page`
writes this page. The weights are downloaded from the Hugging Face hub (`timm/NAME`) by its own
client; each repository's page has the authoritative license.

```
python -m flax_resnet models 'resnet50*'            # names, parameters, multiply-adds
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

**Top-1** is in percent on ImageNet's 50,000 validation images, at the input and the test size. timm
measured it, with the same crop and interpolation (`results/results-imagenet.csv` in
[its repository](https://github.com/huggingface/pytorch-image-models), Apache-2.0, copied on
2026-11-28); we have not repeated it. "-" means that the classes are not ImageNet's 1,000, or that
no result is published for the size. **Papers** are those of the network and, after the semicolon,
of its training.

"""
_HEADER = ("name", "input", "test", "top-1 at input", "top-1 at test", "license", "papers (arXiv)")
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
    rows = [_row(find_published(name)) for name in list_pretrained()]
    table = [_HEADER, ("---",) * len(_HEADER), *rows]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    return _INTRODUCTION.format(count=len(rows)) + "\n".join(lines) + "\n"


@functools.cache
def load_accuracies(path: Path = TOP1) -> dict[tuple[str, int, float, str], float]:
    """Return top-1 in percent for each name, image size, crop fraction and interpolation."""
    with path.open(newline="") as file:
        return {
            (
                row["name"],
                int(row["image_size"]),
                float(row["crop_fraction"]),
                row["interpolation"],
            ): float(row["top1"])
            for row in csv.DictReader(file, delimiter="\t")
        }


def measured(weights: Published, train_size: bool = False) -> float | None:
    """Return the top-1 that was measured with this preprocessing of the weights; None: not yet."""
    images = weights.preprocessing(train_size)
    key = (weights.name, images.image_size, images.crop_fraction, images.interpolation)
    return load_accuracies().get(key)


def papers(name: str) -> str:
    """Return links to the papers of a network and of its training."""
    network, _, tag = name.partition(".")
    numbers = [_first(_NETWORKS, network), _first(_TRAININGS, tag)]
    return "; ".join(f"[{n}](https://arxiv.org/abs/{n})" for n in dict.fromkeys(numbers) if n)


def _first(table: dict[str, str], name: str) -> str:
    return next((paper for prefix, paper in table.items() if name.startswith(prefix)), "")


def _row(weights: Published) -> tuple[str, ...]:
    sizes = (True, False)
    accuracies = (measured(weights, train_size) for train_size in sizes)
    return (
        f"`{weights.name}`",
        *(str(weights.preprocessing(train_size).image_size) for train_size in sizes),
        *("-" if top1 is None else f"{top1:.2f}" for top1 in accuracies),
        weights.license or "not stated",
        papers(weights.name),
    )


if __name__ == "__main__":
    PAGE.write_text(page())
