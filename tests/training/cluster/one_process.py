"""One of several processes that train `tiny`: python one_process.py SETTINGS, as JSON."""

import json
import sys

from flax_resnet import train
from flax_resnet.commands.reporting import clear_errors
from flax_resnet.models.variants import VARIANTS
from flax_resnet.training.cluster.joining import joined

settings = json.loads(sys.argv[1])
VARIANTS["tiny"] = settings["row"]
with clear_errors(), joined(*settings["cluster"], patience=settings["patience"]):
    train(settings["config"], settings["workdir"], stop_after=settings["stop_after"])
