"""The documents' code runs, their commands parse, and their links and generated pages are right."""

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jax
import numpy as np
import pytest
from PIL import Image

import flax_resnet
import flax_resnet.data
import flax_resnet.steps
from flax_resnet.__main__ import main, make_parser
from flax_resnet.commands import flags, serve
from flax_resnet.commands.finetune import _default_workdir
from flax_resnet.commands.reporting import Done
from flax_resnet.finetune import settings as finetune_settings
from flax_resnet.models.variables import variable_shapes
from flax_resnet.models.variants import VARIANTS
from flax_resnet.weights import hub
from tools import weights_page

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


# Documents that compile large networks; the functions have quick tests elsewhere.
QUICK = ("CONTRIBUTING.md", "measuring.md", "new_variant.md")
WITH_BLOCKS = [
    pytest.param(path, id=by_name(path), marks=[pytest.mark.slow] * (path.name not in QUICK))
    for path in DOCUMENTS
    if python_blocks(path)
]


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every repository of the hub weights of zeros, so that documents can name real ones."""

    def fetch(repository: str, file: str, *_: object, **__: object) -> Path:
        folder = tmp_path / "hub" / repository
        if not folder.exists():
            name = folder.name.partition(".")[0]
            model = flax_resnet.create_model(name)
            zeros = jax.tree.map(
                lambda leaf: np.zeros(leaf.shape, leaf.dtype), variable_shapes(model)
            )
            flax_resnet.save_pretrained(model, zeros, folder, architecture=name)
        return folder / file

    monkeypatch.setattr(hub, "_fetch", fetch)


@pytest.mark.parametrize("path", WITH_BLOCKS)
def test_python_blocks_run_in_order(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    offline_hub: None,
    registries: None,
) -> None:
    monkeypatch.chdir(tmp_path)  # where they may write
    Image.new("RGB", (320, 240)).save("photo.jpg")
    names: dict[str, object] = {"__name__": "__main__"}
    for block in python_blocks(path):
        exec(compile(block, str(path), "exec"), names)


PROGRAM = re.compile(r"(?:python -m flax_resnet|flax-resnet|python (?=train\.py)) ?(.*)")


def commands(path: Path) -> list[list[str]]:
    """Return the words of every command of this package in a document's shell blocks."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.M | re.S)
    shell = "".join(block for language, block in blocks if language in ("", "bash"))
    lines = (PROGRAM.match(line) for line in shell.replace("\\\n", " ").splitlines())
    typed = [shlex.split(line[1], comments=True) for line in lines if line]
    return [["train", *words[1:]] if words[:1] == ["train.py"] else words for words in typed]


@pytest.mark.parametrize("path", DOCUMENTS, ids=by_name)
def test_commands_are_understood(path: Path) -> None:
    parser = make_parser()
    for words in commands(path):
        parsed, late = parser.parse_known_args(words)
        if parsed.command in ("train", "sweep"):
            flags.parse_recipe(late if parsed.command == "train" else [f"--config={parsed.recipe}"])
        elif parsed.command != "lab":
            assert late == [], words


def runs_written(words: list[str]) -> set[str]:
    """Return the folder of the run that a command writes."""
    parser = make_parser()
    parsed, late = parser.parse_known_args(words)
    if parsed.command == "finetune":
        return {str(parsed.workdir or _default_workdir(parsed))}
    if parsed.command == "sweep":
        return {str(parsed.out or f"runs/sweep-{flags.config_name(parsed.recipe)}")}
    if parsed.command == "average":
        return {str(parsed.out or f"{parsed.run}/average")}
    if parsed.command != "train":
        return set()
    given = dict(pairwise(late))
    given |= dict(word.split("=", 1) for word in late if "=" in word)
    return {given.get("--workdir") or f"runs/{flags.config_name(given['--config'])}"}


# Pages about what is done with a run of one's own images, and say so.
WITH_A_RUN = {"serving.md": {"runs/photos"}, "export.md": {"runs/photos"}}


@pytest.mark.parametrize("path", DOCUMENTS, ids=by_name)
def test_commands_read_runs_that_commands_before_them_have_written(path: Path) -> None:
    known = WITH_A_RUN.get(path.name, set())
    for words in commands(path):
        written = runs_written(words)
        read = {word for word in words if word.startswith("runs/")} - written
        assert read <= known, f"{' '.join(words)}: no command before it writes {read - known}"
        known = known | written


@pytest.fixture
def images(tmp_path: Path) -> None:
    """Make the images that documents name: two classes of noise, one of them brighter."""
    rng = np.random.default_rng(0)
    for folder in ("photos", "new_photos"):
        for name, low, images in (("ant", 0, 8), ("bee", 120, 12)):
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(images):
                pixels = rng.integers(low, low + 128, (12, 12, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{number}.png")
    shutil.copytree(tmp_path / "photos" / "ant", tmp_path / "holiday")
    rows = [f"{name}/{number}.png,{name}" for name in ("ant", "bee") for number in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/finetune.md"])
def test_commands_run_in_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline_hub: None, images: None
) -> None:
    tiny = dict(stage_sizes=(1,), widths=(8,), stem="cifar", image_size=8)
    for network in ("resnet18", "resnet50"):
        monkeypatch.setitem(VARIANTS, network, tiny)
    # One epoch shows as much as forty.
    monkeypatch.setattr(
        finetune_settings,
        "_PRETRAINED",
        dataclasses.replace(finetune_settings._PRETRAINED, epochs=(1, 1)),
    )
    served = []
    # Serving ends only with a signal; its own tests send one.
    monkeypatch.setattr(serve, "run", lambda args: Done({"of": served.append(args.run)}))
    monkeypatch.chdir(tmp_path)
    for words in commands(ROOT / name):
        words = ["1" if before == "--epochs" else word for before, word in pairwise(["", *words])]
        assert main(words) == 0, words
    assert served == ["runs/photos"]
    assert (tmp_path / "runs" / "photos" / "report.html").is_file()
    if "docs" in name:
        assert len((tmp_path / "features.files.txt").read_text().splitlines()) == 8


def test_the_table_of_extras_is_complete() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first = re.findall(r"^\|.*?\|", (ROOT / "docs" / "install.md").read_text(), re.M)
    listed = re.findall(r"`([\w-]+)`", " ".join(first))
    assert set(project["optional-dependencies"]) <= set(listed)


def test_nobody_is_told_to_install_the_package_from_an_index() -> None:
    sources = [*ROOT.glob("flax_resnet/**/*.py"), *ROOT.glob("docs/**/*.ipynb"), *DOCUMENTS]
    for path in sources:
        for line in re.findall(r"pip install[^\n]*", path.read_text()):
            assert not re.search(r"flax[-_]resnet(?!-\S*\.whl)", line), f"{by_name(path)}: {line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=by_name)
def test_linked_files_exist(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_recipe_is_in_the_table_and_that_in_the_readme() -> None:
    assert "(docs/recipes.md)" in (ROOT / "README.md").read_text()
    table = (ROOT / "docs" / "recipes.md").read_text()
    for recipe in ROOT.glob("configs/*.py"):
        assert f"`{recipe.stem}`" in table


def test_the_loop_of_ones_own_is_short() -> None:
    loop = python_blocks(ROOT / "docs" / "your_own_loop.md")[0]
    assert "def fit(" in loop
    assert len(loop.splitlines()) <= 60


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_page_of_weights_is_up_to_date() -> None:
    page = weights_page.PAGE.read_text()
    assert page == weights_page.page(), "run python -m tools.weights_page"
    for name in flax_resnet.list_pretrained():
        assert f"| `{name}` |" in page
    row = "| `resnet50.a1_in1k` | 25.56 M | 4.09 (224) | 224 | 288 | timm | apache-2.0 |"
    assert row in page
    assert "| `resnet50.a1_in1k` | 288 | 81.24 | 95.11 | 86.58 |" in page


def test_every_page_is_in_the_navigation() -> None:
    def pages(entries: list[dict[str, object]]) -> Iterator[str]:
        for entry in entries:
            for target in entry.values():
                yield from [target] if isinstance(target, str) else pages(target)

    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    docs = ROOT / "docs"
    written = {str(page.relative_to(docs)) for page in docs.rglob("*.md")}
    assert sorted(pages(project["nav"])) == sorted(written)


class Page(HTMLParser):
    """The links and anchors of a page, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attributes if value}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and "href" in found:
            self.loaded.append(found["href"])
        if "src" in found:
            self.loaded.append(found["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, and return its folder."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("docs", "flax_resnet"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", root)
    program = Path(sys.executable).parent / "zensical"
    build = [program, "build", "--clean", "--strict"]
    done = subprocess.run(build, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "site"


@pytest.mark.slow
def test_links_of_the_site_lead_somewhere_and_it_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 25
    broken = []
    for path, page in pages.items():
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert link not in page.loaded, f"{path.name} loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].anchors if target in pages else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in known):
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    assert broken == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "page"),
    [
        (flax_resnet, "index"),
        (flax_resnet.data, "data"),
        (flax_resnet.steps, "steps"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_the_reference_has_every_public_name(site: Path, module: object, page: str) -> None:
    anchors = Page(site / "reference" / f"{page}.html").anchors
    names = [f"{module.__name__}.{name}" for name in module.__all__]
    assert [name for name in names if name not in anchors] == []
