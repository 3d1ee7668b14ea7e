"""How much a reader takes on: what a file declares is held against this before anything is decoded."""

from __future__ import annotations

MAX_FRAME_PIXELS = 100_000_000
"""Of one image or frame, 10,000 x 10,000: a hundred times a scanner's screen."""
MAX_SIDE_PX = 32_000
"""Beyond it OpenCV's functions overflow."""
MAX_CLIP_PIXELS = 10**11
"""Of all frames of a clip: an hour of 1024 x 768 at 30 frames/s is 8.5 x 10^10."""
MAX_CLIP_BYTES = 1 << 32
"""Of the stored frames of a clip: an hour at 30 frames/s and 192 px is 4.0 x 10^9."""


class TooLarge(ValueError):
    """A file declares more than is taken on; says how much, and how much would be."""


def check_frame_size(height: int, width: int) -> None:
    """TooLarge where a frame of this size is not to be decoded."""
    if height * width > MAX_FRAME_PIXELS:
        raise TooLarge(
            f"a frame of {width:,} x {height:,} px is larger than {MAX_FRAME_PIXELS // 1_000_000} million pixels, "
            "the most that is read"
        )
    if max(height, width) > MAX_SIDE_PX:
        raise TooLarge(f"a frame of {width:,} x {height:,} px has a side of more than {MAX_SIDE_PX:,} px")


def check_clip_size(num_frames: int, *, frame_pixels: int = 1, size: int = 1) -> None:
    """TooLarge where so many frames, of `frame_pixels` each and stored `size` px square, are too much for a clip."""
    if num_frames * frame_pixels > MAX_CLIP_PIXELS:
        raise TooLarge(
            f"{num_frames:,} frames of {frame_pixels:,} pixels are more than {MAX_CLIP_PIXELS:,} pixels, "
            "the most that is read of a clip; cut it"
        )
    if num_frames * size * size > MAX_CLIP_BYTES:
        raise TooLarge(
            f"{num_frames:,} frames of {size} x {size} px are more than {MAX_CLIP_BYTES / 1e9:.1f} GB, "
            "the most that is stored of a clip; cut it, or choose a smaller --size"
        )
