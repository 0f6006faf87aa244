"""Overlay videos: maps of what is heard where, drawn over the frames, with the sound.

Shapes: T frames; W windows; h, w the vision network's cells.
"""

import os

import matplotlib
import numpy as np
from PIL import Image

import media
import utils
from pages.media import AAC_BITRATE, COLOURS_ENERGY, ENERGY_ALPHA, H264_CRF

EMBEDDING_ALPHA = 0.6


def energy_maps(energy, times, num_frames, fps):
    """Colour the energy [W, h, w] of windows around `times` (seconds) for each frame: uint8 [T, h, w, 4]."""
    level = np.sqrt(energy / max(float(energy.max()), 1e-30))
    seconds = (np.arange(num_frames) + 0.5) / fps
    flat = level.reshape(len(level), -1)
    level = np.stack([np.interp(seconds, times, column) for column in flat.T], axis=1)
    level = level.reshape(num_frames, *energy.shape[1:])
    colours = matplotlib.colormaps[COLOURS_ENERGY](level, bytes=True)
    colours[..., 3] = np.round(255 * ENERGY_ALPHA * level)
    return colours


def embedding_maps(colours, num_frames):
    """Repeat colours [h, w, 3] for each frame, with alpha: uint8 [T, h, w, 4]."""
    alpha = np.full((*colours.shape[:2], 1), round(EMBEDDING_ALPHA * 255), np.uint8)
    return np.broadcast_to(np.concatenate([colours, alpha], axis=2), (num_frames, *colours.shape[:2], 4))


def encode_sound(path, path_encoded):
    """Encode a sound for overlay videos: AAC in an .m4a file."""
    coding = ["-c:a", "aac", "-b:a", AAC_BITRATE, "-ac", "2"]
    media.run_ffmpeg(["-i", media.file_url(path), *coding, media.file_url(path_encoded)])


def write_overlay(path, frames, fps, maps, path_sound):
    """Write a video of the frames 000001.jpg … in `frames`, under maps uint8 [T, h, w, 4].

    path_sound: see `encode_sound`.
    """
    with Image.open(os.path.join(frames, "000001.jpg")) as picture:
        width, height = (length // 2 * 2 or 2 for length in picture.size)
    rows, columns = maps.shape[1:3]
    pattern = media.file_url(frames).replace("%", "%%") + "/%06d.jpg"
    pictures = ["-framerate", f"{fps:g}", "-i", pattern]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{columns}x{rows}", "-r", f"{fps:g}", "-i", "pipe:0"]
    size = f"{width}:{height}"
    graph = f"[0]scale={size}[p];[1]scale={size}:flags=bicubic[m];[p][m]overlay,format=yuv420p[v]"
    coding = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(H264_CRF), "-c:a", "copy"]
    sound = ["-i", media.file_url(path_sound)]
    layout = ["-map", "[v]", "-map", "2:a", *coding, "-movflags", "+faststart"]
    with utils.replacing(path) as temporary:
        arguments = [*pictures, *raw, *sound, "-filter_complex", graph, *layout, media.file_url(temporary)]
        media.run_ffmpeg(arguments, data=np.ascontiguousarray(maps).data)
