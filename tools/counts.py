"""Count the parameters and multiply-adds of every network: `python -m tools.counts`.

Writes the table from which `python -m flax_resnet models` lists them.
"""

import io

from flax_resnet.commands.models import COUNTS
from flax_resnet.files import replace_text
from flax_resnet.models import count_both, create_model, list_models

COLUMNS = ("name", "parameters", "macs", "image_size", "classes")


def count(name: str) -> tuple[str, int, int, int, int]:
    """Return the row of the network called `name`."""
    model = create_model(name)
    return name, *count_both(model), model.image_size, model.num_classes


def main() -> None:
    """Count every network and write the table."""
    table = io.StringIO()
    for row in (COLUMNS, *map(count, list_models())):
        print(*row, sep="\t", file=table)
    replace_text(COUNTS, table.getvalue())


if __name__ == "__main__":
    main()
