#!/usr/bin/env bash
# Everything in one go: builds what is missing, then measures. Options are driver.py's.
set -euo pipefail
cd "$(dirname "$0")"
./setup.sh
exec "${PEERS_HOME:-$PWD/target}/torch/bin/python" driver.py "$@"
