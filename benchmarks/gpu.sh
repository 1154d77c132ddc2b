#!/usr/bin/env bash
# ResNet-50 beside timm's on one GPU in at most 9 minutes, without network or data stack; a table
# comes last and JSON lies under benchmarks/results. --tiny: a small network on any CPU; --help.
# PYTHON chooses the interpreter, BENCHMARKS_OUTPUT the folder of the JSON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" -m benchmarks.peers.gpu "$@"
