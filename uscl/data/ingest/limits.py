"""How much a reader takes on: what a file declares is held against this before anything is decoded."""

from __future__ import annotations

MAX_FRAME_PIXELS = 100_000_000
"""Of one image or frame, 10,000 x 10,000: a hundred times a scanner's screen."""
MAX_CLIP_PIXELS = 10**11
"""Of all frames of a clip: an hour of 1024 x 768 at 30 frames/s is 8.5 x 10^10."""
MAX_CLIP_BYTES = 1 << 32
"""Of the stored frames of a clip: an hour at 30 frames/s and 192 px is 4.0 x 10^9."""


def check_frame_size(height: int, width: int) -> None:
    """ValueError where a frame of this size is not to be decoded."""
    if height * width > MAX_FRAME_PIXELS:
        raise ValueError(
            f"a frame of {width:,} x {height:,} px is larger than {MAX_FRAME_PIXELS // 1_000_000} million pixels, "
            "the most that is read"
        )


def check_clip_size(num_frames: int, *, frame_pixels: int = 1, size: int = 1) -> None:
    """ValueError where so many frames, of `frame_pixels` each and stored `size` px square, are too much for a clip."""
    if num_frames * frame_pixels > MAX_CLIP_PIXELS:
        raise ValueError(
            f"{num_frames:,} frames of {frame_pixels:,} pixels are more than {MAX_CLIP_PIXELS:,} pixels, "
            "the most that is read of a clip; cut it"
        )
    if num_frames * size * size > MAX_CLIP_BYTES:
        raise ValueError(
            f"{num_frames:,} frames of {size} x {size} px are more than {MAX_CLIP_BYTES / 1e9:.1f} GB, "
            "the most that is stored of a clip; cut it, or choose a smaller --size"
        )
