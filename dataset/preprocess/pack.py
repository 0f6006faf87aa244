"""Videos -> shards, without keeping frames and audio as files."""

import contextlib
import itertools
import os
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from dataset.index import Clip
from dataset.preprocess.convert import convert
from dataset.shards.encode import Encoding
from dataset.shards.write import Failed, pack, packed_clips
from utils import UserError

AHEAD = 2  # videos converted ahead of the packing, per job


def pack_videos(root, targets, staging, folder, jobs, settings, shard_bytes, tag=""):
    """Convert videos and pack them into shards in `folder`, except for those in its shards already.

    targets: {video: (frames folder, audio file)} relative to the folder that the context manager `staging`
    gives, or a text: why the video cannot be used; tag: see `dataset.shards.write.pack`. Returns ({name of a
    clip: why it failed}, the number of clips that were there already).
    """
    os.makedirs(folder, exist_ok=True)
    there, left = packed_clips(folder), {}
    for video, paths in targets.items():
        if isinstance(paths, str) or Clip(paths[1], paths[0], 1).name not in there:
            left[video] = paths
    clips = _converted(root, left, staging, jobs, settings)
    video = {name: getattr(settings, name) for name in ("fps", "rate", "short_side")}
    failures = pack(clips, folder, shard_bytes, Encoding(), tag, len(left), video)
    return failures, len(targets) - len(left)


def _converted(root, targets, staging, jobs, settings):
    """Yield a `Clip` or `Failed` per video, in their order; a clip's files last until the next is taken."""
    with staging as work, ThreadPoolExecutor(jobs) as pool:

        def start(video):
            paths = targets[video]
            if isinstance(paths, str):
                return video, None, pool.submit(Failed, video, paths)
            paths = [os.path.join(work, path) for path in paths]
            return video, paths, pool.submit(convert, os.path.join(root, video), *paths, work, settings)

        videos, waiting = iter(targets), deque()
        try:
            while True:
                waiting.extend(map(start, itertools.islice(videos, AHEAD * jobs - len(waiting))))
                if not waiting:
                    return
                yield from _finish(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _finish(video, paths, future):
    try:
        result = future.result()
    except (UserError, OSError) as error:
        result = Failed(video, " ".join(str(error).split()))
    if isinstance(result, Failed):
        yield result
        return
    path_frames, path_audio = paths
    yield Clip(path_audio, path_frames, result.num_frames)
    with contextlib.suppress(OSError):
        shutil.rmtree(path_frames)
        os.remove(path_audio)
