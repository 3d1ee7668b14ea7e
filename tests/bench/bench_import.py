"""How fast clips are imported against decoding them alone, in how much memory, and what 7,000 clips would take.

    python tests/bench/bench_import.py [--clips 24] [--workers 2] [--real FOLDER] [--folder FOLDER]

Writes H.264 videos and JPEG DICOM cines of 640 x 480 (or takes the videos and cines of `--real`), decodes them with the
same library and the same number of processes without keeping anything, then imports them. Both runs start their
processes anew. Targets: at least 0.8 of the frames/s of decoding alone; anonymous memory of a reading process that does
not grow with the length of a clip.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import av
import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import iter_pixels
from pydicom.uid import JPEGBaseline8Bit

from uscl.data.ingest.clip_copies import ClipPrint, find_same_recordings
from uscl.data.ingest.clips import import_clips
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.parts import PartFolder
from uscl.data.ingest.reading import ClipSource, read_source
from uscl.data.ingest.sources import find_sources_of_clips
from uscl.data.ingest.workers import run_each

SIZE_PX, CLIP_FRAMES, HEIGHT_PX, WIDTH_PX, RATE_HZ = 192, 200, 480, 640, 30
PLANNED_CLIPS, PLANNED_FRAMES = 7000, 200
LENGTHS = (200, 1000, 4000, 12000)
TARGET_RATIO = 0.8
_Value = TypeVar("_Value")


def sector_frames(rng: np.random.Generator, count: int) -> np.ndarray:
    """(T, H, W) uint8: blurred speckle in a fan, drifting."""
    rows, columns = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    angle, depth = np.arctan2(columns - WIDTH_PX / 2, rows + 40), np.hypot(columns - WIDTH_PX / 2, rows + 40)
    fan = (np.abs(angle) < 0.6) & (depth > 60) & (depth < 500)
    field = cv2.GaussianBlur(rng.rayleigh(60, (HEIGHT_PX, WIDTH_PX + 400)).astype(np.float32), (0, 0), 1.2)
    steps = np.cumsum(rng.integers(0, 4, count)) % 400
    noise = rng.normal(0, 4, (HEIGHT_PX, WIDTH_PX)).astype(np.float32)
    moved = (field[:, at : at + WIDTH_PX] + np.roll(noise, int(at), axis=0) for at in steps)
    return np.stack([np.where(fan, np.clip(frame, 0, 255), 0).astype(np.uint8) for frame in moved])


def write_mp4(path: Path, frames: np.ndarray, *, repeat: int = 1) -> None:
    """H.264 at 30 frames/s, the frames so many times over."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options={"preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for _ in range(repeat):
            for pixels in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode())


def write_dicom(path: Path, frames: np.ndarray) -> None:
    """An ultrasound cine of grey JPEG frames."""
    header, encoded = Dataset(), []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "jpeg", quality=90)
        encoded.append(buffer.getvalue())
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    header.SOPClassUID, header.SOPInstanceUID, header.Modality = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.3", "US"
    header.PatientIdentityRemoved = "YES"
    header.Rows, header.Columns, header.NumberOfFrames, header.FrameTime = *frames.shape[1:], len(frames), 33.3
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
    header.PixelData = encapsulate(encoded)
    header.save_as(path, enforce_file_format=True)


def write_set(folder: Path, clips: int) -> None:
    """Half the clips as videos, half as cines; each with frames of its own."""
    folder.mkdir(parents=True)
    for number in range(clips):
        frames = sector_frames(np.random.default_rng(number), CLIP_FRAMES)
        path = folder / f"{number:04}.{'mp4' if number % 2 else 'dcm'}"
        (write_mp4 if number % 2 else write_dicom)(path, frames)


def decode_alone(source: ClipSource) -> int:
    """Decode every frame of a file, keep none; how many there were."""
    if source.format == "DICOM":
        return sum(1 for _ in iter_pixels(pydicom.dcmread(source.path)))
    with av.open(str(source.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return sum(frame.to_ndarray(format="gray").shape[0] > 0 for frame in container.decode(stream))


def peak_memory(source: ClipSource, options: ClipOptions, parts: PartFolder) -> tuple[int, float]:
    """Frames of a source, and the most anonymous memory of this process while it was read, MB (Linux)."""
    peak, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    outcome = read_source(source, options, parts)
    done.set()
    watcher.join()
    return outcome.num_frames, peak


def anonymous_mb() -> float:
    """Anonymous memory of this process, MB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


@dataclass(frozen=True)
class Cost:
    """What a piece of work took."""

    wall_s: float
    cpu_s: float
    """Of this process and of those it started: comparable also where other work runs beside."""


def timed(work: Callable[[], _Value]) -> tuple[_Value, Cost]:
    """What `work` returns and what it took."""
    begun, used = time.perf_counter(), cpu_s()
    value = work()
    return value, Cost(time.perf_counter() - begun, cpu_s() - used)


def cpu_s() -> float:
    """Processor time of this process and of its ended children, s."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure_speed(folder: Path, scratch: Path, workers: int) -> float:
    """Print frames/s of decoding alone and of the import, one after the other, best of two; those of the import."""
    from bench_import import decode_alone as decode  # by its module's name: found by the processes

    found = find_sources_of_clips(folder, ClipOptions(SIZE_PX))
    pieces = [(source,) for source in found.sources]
    alone, imported = [], []
    for number in range(2):
        counts, cost = timed(lambda: dict(run_each(decode, pieces, workers=workers)))
        alone.append(cost)
        out = scratch / f"out{number}"
        summary, cost = timed(lambda out=out: import_clips(folder, out, size=SIZE_PX, workers=workers))
        imported.append(cost)
    frames = sum(count for count in counts.values() if isinstance(count, int))
    assert summary.frames == frames, (summary.frames, frames)
    print(f"{len(pieces)} files, {frames} frames, {workers} processes; target {TARGET_RATIO} of decoding alone")
    for what in ("wall_s", "cpu_s"):
        one, other = (min(getattr(cost, what) for cost in costs) for costs in (alone, imported))
        rates = f"decoding alone {frames / one:,.0f} frames/s, import {frames / other:,.0f}"
        print(f"  by {what}: {rates}: {one / other:.2f}")
    return frames / min(cost.wall_s for cost in imported)


def measure_memory(scratch: Path) -> None:
    """Print the peak of a reading process for clips of one picture and ever more frames."""
    from bench_import import peak_memory as peak

    folder, frames = scratch / "long", sector_frames(np.random.default_rng(0), 200)
    folder.mkdir()
    for length in LENGTHS:
        write_mp4(folder / f"{length:06}.mp4", frames[:, ::2, ::2], repeat=length // 200)
    options, parts = ClipOptions(SIZE_PX), PartFolder(scratch, "")
    for source in find_sources_of_clips(folder, options).sources:
        ((_, result),) = run_each(peak, [(source, options, parts)], workers=1)
        count, most = result  # type: ignore[misc]
        print(f"a clip of {count:6} frames ({count * SIZE_PX**2 / 1e6:6.0f} MB stored): {most:5.0f} MB at most")


def measure_copies() -> None:
    """Print what finding copies among 7,000 clips takes."""
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (50, 3, 64, 64), dtype=np.uint8)
    motions = rng.random((PLANNED_CLIPS, PLANNED_FRAMES - 1)).astype(np.float32)
    prints = [ClipPrint(str(n), motions[n], views[n % 50]) for n in range(PLANNED_CLIPS)]
    before = anonymous_mb()
    found, took = timed(lambda: find_same_recordings(prints))
    left = f"{anonymous_mb() - before:.0f} MB left"
    print(f"copies among {PLANNED_CLIPS} clips: {took.wall_s:.2f} s, {left}, {len(found)} found")


def extrapolate(rate: float, workers: int) -> None:
    """Print what the paper's 7,000 clips would take at this rate."""
    frames = PLANNED_CLIPS * PLANNED_FRAMES
    print(
        f"{PLANNED_CLIPS} clips of {PLANNED_FRAMES} frames at {SIZE_PX} px: {frames * SIZE_PX**2 / 1e9:.0f} GB, "
        f"{frames / rate / 60:.0f} min with {workers} processes, {frames / rate / 60 * workers / 16:.0f} min with 16"
    )


def main(words: Sequence[str] = tuple(sys.argv[1:])) -> None:
    """Write the files where needed, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--folder", type=Path, help="Where to work; a temporary folder otherwise.")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        scratch = Path(place)
        if options.real is None:
            write_set(scratch / "in", options.clips)
        rate = measure_speed(options.real or scratch / "in", scratch, options.workers)
        extrapolate(rate, options.workers)
        measure_memory(scratch)
        measure_copies()


if __name__ == "__main__":
    main()
