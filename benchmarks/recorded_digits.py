"""The digits' recipe, in a process that notes which batches it trains on.

`benchmarks.processes` hands it to `train.py`, so that what it watches is `train.py` itself.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks.batch_record import record_to
from configs import digits

RECORD = "FLAX_RESNET_BATCH_RECORD"


def get_config() -> ConfigDict:
    """Return the settings; begin to note where the environment says to which file."""
    if RECORD in os.environ:
        record_to(Path(os.environ[RECORD]))
    return digits.get_config()
