#!/usr/bin/env bash
# Train like train_MUSIC.sh, with torchrun: one process per GPU, on one machine or several. Run the same
# command on every machine. All machines need the project, data/ and ckpt/ at the same paths, e.g. on a shared
# file system.
#
#   ./scripts/train_MUSIC_multinode.sh                                                 all GPUs of this machine
#   ./scripts/train_MUSIC_multinode.sh --nnodes 2 --rdzv-endpoint HOST:29400           two machines, one of them HOST
#
# --nnodes N             number of machines (1)
# --rdzv-endpoint H:P    one of the machines and a free port on it; required for several machines
# --rdzv-id NAME         distinguishes runs that use the same endpoint (MUSIC)
# --nproc-per-node N     processes on this machine (one per GPU, or one without GPUs)
# --max-restarts N       how often all processes are restarted when one dies; the run resumes from its last
#                        save (3)
#
# All other arguments go to main.py and override the recipe. The batch size is --batch_size_per_gpu times the
# number of processes, and a run resumes only with the same batch size. The recipe's is 80: 20 on each of 4 GPUs.
# See also --sync_bn and --accumulate.
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
    endpoint=localhost:0 # any free port
fi
need_data "${flags[@]}"
source "$folder/lib/setup.sh"

nproc="${nproc:-$(python -c 'import torch; print(max(1, torch.cuda.device_count()))')}"
exec python -m torch.distributed.run --rdzv-backend c10d --rdzv-endpoint "$endpoint" --rdzv-id "$id" \
    --nnodes "$nnodes" --nproc-per-node "$nproc" --max-restarts "$restarts" \
    main.py "${training[@]}" "${flags[@]}"
