#!/usr/bin/env bash
# Makes what is missing in $PEERS_HOME (default: target/ beside this script): two Python environments, the library's
# worker, and the workers of candle and burn.
set -euo pipefail
cd "$(dirname "$0")"
home=${PEERS_HOME:-$PWD/target}
mkdir -p "$home"

for name in torch jax; do
  if [ ! -e "$home/$name/ready" ]; then
    python3 -m venv "$home/$name"
    "$home/$name/bin/pip" install -q -r "requirements-$name.txt"
    touch "$home/$name/ready"
  fi
done
cargo build --release -q --manifest-path ../../Cargo.toml --example workloads --target-dir "$home/engine"
cargo build --release -q --manifest-path rust/Cargo.toml --locked --target-dir "$home/rust"
