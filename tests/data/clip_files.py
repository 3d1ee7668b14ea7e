"""Little videos, labelled folders and datasets that the tests of tests/data write themselves."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from uscl.data.writer import DatasetWriter


def real_data(name):
    """The folder of a real set, or None: `USCL_SHARED_DATA`, else ../shared/data beside the repository."""
    root = Path(os.environ.get("USCL_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    return root / name if (root / name).is_dir() else None


def speckle(rng, *shape):
    """Random grey levels, never black."""
    return rng.integers(30, 256, shape, dtype=np.uint8)


def write_video(path, frames, *, rate=25, stamps=None, aspect=None, metadata=None, codec="ffv1"):
    """`frames` (T, H, W) uint8 without loss; `stamps` in ms replace the times that `rate` gives."""
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "gray" if codec == "ffv1" else "yuv420p"
        if aspect:
            stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="gray")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = Fraction(1, rate) if stamps is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_pair(folder, stem, image, mask, *, palette=False, suffix=".png"):
    """One image and mask; `palette` stores the mask as indices into colours."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / "images" / f"{stem}.png")
    picture = Image.fromarray(mask)
    if palette:
        picture = Image.frombytes("P", (mask.shape[1], mask.shape[0]), np.ascontiguousarray(mask).tobytes())
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(folder / "masks" / f"{stem}{suffix}")


def make_dataset(path, *, seed=0, size=32, classes=("a", "b"), clips=3, cases=6, prefix="", **settings):
    """A small dataset of noise: clips of 4, 5, ... frames, one patient each, and cases of the same patients."""
    rng = np.random.default_rng(seed)
    with DatasetWriter(path, name=path.name, classes=classes, size=size, **settings) as writer:
        for n in range(clips):
            frames = speckle(rng, 4 + n, size, size)
            times = None if n == 0 else np.arange(4 + n) * 40.0
            writer.add_clip(frames, clip=f"{prefix}clip{n}", patient=f"{prefix}p{n}", times_ms=times)
        for n in range(cases):
            masks = rng.random((len(classes), 20 + n, 30)) > 0.5
            writer.add_case(speckle(rng, 20 + n, 30), masks, case=f"{prefix}case{n}", patient=f"{prefix}p{n}")
    return path
