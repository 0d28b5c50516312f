#!/usr/bin/env bash
# Profiles one of four validators under load: where its threads spend their time, as a flame graph.
#
#   perf/profile.sh [RATE [SECONDS [FILE]]]      5000 transactions a second for 20 seconds into perf/profile.svg
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rate=${1:-5000} seconds=${2:-20} file=$(realpath -m "${3:-perf/profile.svg}")

cargo build --release --workspace --features salus/profile
folder=$(mktemp -d)
stop() {
    for pid in "$folder"/net/validator-*/node.pid; do
        kill "$(cat "$pid")" 2>/dev/null || true
    done
    [ -z "${profiled:-}" ] || { kill "$profiled" 2>/dev/null || true; wait "$profiled" 2>/dev/null || true; }
    rm -rf "$folder"
}
trap stop EXIT

target/release/salus demo --keep --times 1 --dir "$folder/net" >/dev/null
one=$folder/net/validator-1
pid=$(cat "$one/node.pid")
kill "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
target/release/salus node --config "$one/node.toml" --profile "$file" >"$folder/out" 2>"$folder/err" &
profiled=$!
for _ in $(seq 300); do
    grep -q '^ready' "$folder/out" && break
    sleep 0.1
done
grep -q '^ready' "$folder/out" || { cat "$folder/err" >&2; exit 1; }

target/release/load --dir "$folder/net" --rates "$rate" --seconds "$seconds"
kill -INT "$profiled"
wait "$profiled"
profiled=
echo "$file"
