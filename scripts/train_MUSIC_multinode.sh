#!/usr/bin/env bash
# Train as train_MUSIC.sh does, by torchrun: a process for each GPU, on one machine or several. Give the same command
# on each machine; all of them see the project's folder, data and ckpt at the same place.
#
#   ./scripts/train_MUSIC_multinode.sh                                                 all GPUs of this machine
#   ./scripts/train_MUSIC_multinode.sh --nnodes 2 --rdzv-endpoint HOST:29400           two machines, HOST one of them
#
# --nnodes N             machines (1)
# --rdzv-endpoint H:P    where they meet: one of them, and a free port on it; needed for more than one
# --rdzv-id NAME         tells runs apart that meet at the same place (MUSIC)
# --nproc-per-node N     processes on this machine (one for each GPU, one without any)
# --max-restarts N       times that all processes are started again when one has died; the run goes on from its
#                        last epoch (3)
#
# All other arguments go to main.py and win. A step's batch is --batch_size_per_gpu times all processes, and a run
# goes on only with the same batch; the recipe's is 80, by 20 on each of 4 GPUs. See also --sync_bn, --accumulate.
set -euo pipefail

folder="$(dirname -- "${BASH_SOURCE[0]}")"
source "$folder/lib/recipe.sh"

nnodes=1 endpoint="" id=MUSIC nproc="" restarts=3
flags=()
while (($#)); do
    case "$1" in
    --nnodes | --rdzv-endpoint | --rdzv-id | --nproc-per-node | --max-restarts)
        (($# > 1)) || { echo "error: $1 needs a value" >&2 && exit 2; }
        name="$1" value="$2"
        shift 2
        ;;
    --nnodes=* | --rdzv-endpoint=* | --rdzv-id=* | --nproc-per-node=* | --max-restarts=*)
        name="${1%%=*}" value="${1#*=}"
        shift
        ;;
    *)
        flags+=("$1")
        shift
        continue
        ;;
    esac
    case "$name" in
    --nnodes) nnodes="$value" ;;
    --rdzv-endpoint) endpoint="$value" ;;
    --rdzv-id) id="$value" ;;
    --nproc-per-node) nproc="$value" ;;
    --max-restarts) restarts="$value" ;;
    esac
done

if [[ -z $endpoint ]]; then
    [[ $nnodes == 1 ]] || { echo "error: --nnodes $nnodes needs --rdzv-endpoint HOST:PORT" >&2 && exit 2; }
    endpoint=localhost:0 # any port that is free
fi
need_data "${flags[@]}"
source "$folder/lib/setup.sh"

nproc="${nproc:-$(python -c 'import torch; print(max(1, torch.cuda.device_count()))')}"
python -m torch.distributed.run --rdzv-backend c10d --rdzv-endpoint "$endpoint" --rdzv-id "$id" \
    --nnodes "$nnodes" --nproc-per-node "$nproc" --max-restarts "$restarts" \
    main.py "${training[@]}" "${flags[@]}"
