#!/usr/bin/env bash
# One training run on a lent GPU, in a few calls of at most ten minutes.
#
#   bash benchmarks/gpu_train.sh pack SHARDS...    here: lay tars out in runs/gpu-1, -2 ... of at most
#                                                  45 MiB, one `carry` each; then a call of `true` for
#                                                  each but the last while the machine is warm
#   bash benchmarks/gpu_train.sh train MINUTES [INIT] [OPTIONS...]
#                                                  there: train on what lies in runs/gpu-*, resuming
#                                                  runs/gpu if it is there; $OUT gets the averaged
#                                                  weights (fp16, below 16 MiB), log.jsonl, device.txt
#
# Label maps (objects-train.tar, and what python -m hscaunet.segment made) go into the same folders;
# tars whose names begin with "objects" or "things" are taken for those. PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

case ${1:-} in
pack)
    shift
    rm -rf runs/gpu-[0-9]*
    part=1 used=0
    for shard in "$@"; do
        size=$(stat -c %s "$shard")
        if ((used > 0 && used + size > 45 * 1048576)); then part=$((part + 1)) used=0; fi
        mkdir -p "runs/gpu-$part"
        cp "$shard" "runs/gpu-$part/"
        used=$((used + size))
    done
    du -sh runs/gpu-*
    ;;
train)
    minutes=$2 init=${3:-}
    shift $(($# < 3 ? $# : 3))
    : "${OUT:=runs/gpu-out}"
    mkdir -p "$OUT"
    shopt -s nullglob
    maps=(runs/gpu-[0-9]*/objects*.tar runs/gpu-[0-9]*/things*.tar) photos=()
    for tar in runs/gpu-[0-9]*/*.tar; do
        case $(basename "$tar") in objects* | things*) ;; *) photos+=("$tar") ;; esac
    done
    ((${#photos[@]})) || { echo "There are no photos in runs/gpu-*; carry them first."; exit 1; }
    more=(--resume)
    [[ -e runs/gpu/last.pt || -z $init ]] || more+=(--init "$init")
    ((${#maps[@]})) && more+=(--things "${maps[@]}")
    "$python" -c 'import torch; c = torch.cuda; print(c.get_device_name() if c.is_available() else "cpu", torch.__version__)' |
        tee "$OUT/device.txt"
    "$python" -m hscaunet.train --data "${photos[@]}" --out runs/gpu --time-limit "$minutes" \
        --checkpoint-every 2 --log-every 10 "${more[@]}" "$@" 2>&1 | tail -n 60
    cp runs/gpu/log.jsonl "$OUT/"
    "$python" - "$OUT/ema.safetensors" <<'PY'
import sys

from hscaunet.checkpoints import load_checkpoint, save_release

found = load_checkpoint("runs/gpu/last.pt")
save_release(sys.argv[1], found.model, {**found.metadata, "name": "gpu"})
PY
    ls -l "$OUT"
    ;;
*)
    sed -n '2,14p' "$0"
    exit 2
    ;;
esac
