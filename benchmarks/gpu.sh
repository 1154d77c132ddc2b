#!/usr/bin/env bash
# Compare ResNet-50 with timm's on one GPU in at most 9 minutes, without network or data stack; print a
# table and write JSON to benchmarks/results. --tiny: a small network on any CPU; --help.
# PYTHON chooses the interpreter, BENCHMARKS_OUTPUT the folder of the JSON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python3}" -m benchmarks.peers.gpu "$@"
