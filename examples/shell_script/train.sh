#!/usr/bin/env bash
# Halves an error in each round.
set -euo pipefail
rounds=3
while [ $# -gt 0 ]; do
    case $1 in
        --rounds) rounds=$2; shift 2 ;;
        *) echo "unknown argument $1" >&2; exit 2 ;;
    esac
done

error=1000
for ((epoch = 0; epoch < rounds; epoch++)); do
    error=$((error / 2))
    printf 'epoch %d: loss=0.%03d\n' "$epoch" "$error"
done
printf '{"error": 0.%03d, "rounds_done": %d}\n' "$error" "$rounds" > metrics.json
echo "weights of $rounds rounds" > model.txt
