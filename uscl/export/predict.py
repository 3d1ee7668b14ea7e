"""Masks, overlays and areas of new images and clips, by a model."""

# K classes, H x W pixels of a file

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uscl.data.ingest.frames import NativeFrame
from uscl.data.ingest.source import SourceFile, find_sources, shown, to_file_size
from uscl.data.overlay import draw_contours, encode_png
from uscl.errors import DataError
from uscl.stages.evaluate import Predictor

MASKS, OVERLAYS, AREAS = "masks", "overlays", "areas.csv"
COLUMNS = ("file", "frame", "class", "area_px", "area_fraction", "area_mm2", "mask")


@dataclass(slots=True)
class PredictSummary:
    """What was predicted, and the files that could not be read, with why."""

    files: int = 0
    frames: int = 0
    unreadable: list[str] = field(default_factory=list)


def predict_files(
    predictor: Predictor,
    images: Path,
    out: Path,
    *,
    classes: Sequence[str],
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> PredictSummary:
    """Predict a file, or every image, DICOM and video file below a folder, frame by frame, into `out`.

    masks/<name>[-f<frame>]-<class>.png: 0 or 255 at the file's own size, one file per class because nested classes
    overlap; overlays/<name>[-f<frame>].png: outlines in the classes' colours; areas.csv: a line per frame and class.
    Only what lies within a DICOM file's B-mode region is looked at. DataError where there is nothing to predict, none
    of the files can be read, or `out` is there already and not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; choose another folder, or remove it")
    sources = find_sources(images)
    summary = PredictSummary()
    for name in (MASKS, OVERLAYS):
        (out / name).mkdir(parents=True, exist_ok=True)
    with (out / AREAS).open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        for number, source in enumerate(sources):
            progress("files", number, len(sources))
            try:
                for row in _predict_file(predictor, source, out, classes=classes, summary=summary):
                    table.writerow({"file": _relative(source.path, images)} | row)
                summary.files += 1
            except DataError as error:
                summary.unreadable.append(str(error))
    progress("files", len(sources), len(sources))
    if not summary.frames:
        for path in (out / AREAS, out / MASKS, out / OVERLAYS, out):  # the next try may use the same folder
            path.unlink() if path.is_file() else path.rmdir()
        raise DataError(f"nothing could be predicted: {'; '.join(summary.unreadable[:3])}")
    return summary


def predict_frame(predictor: Predictor, frame: NativeFrame) -> NDArray[np.bool_]:
    """Masks (K, H, W) of a frame at its file's own size."""
    return to_file_size(frame, predictor(shown(frame)))


def _predict_file(
    predictor: Predictor, source: SourceFile, out: Path, *, classes: Sequence[str], summary: PredictSummary
) -> Iterator[dict[str, object]]:
    """Write the masks and overlays of each frame; rows of the table."""
    for number, (frame, alone) in enumerate(_told_alone(source.frames())):
        name = source.name if alone else f"{source.name}-f{number:05d}"
        masks_KHW = predict_frame(predictor, frame)
        summary.frames += 1
        (out / OVERLAYS / f"{name}.png").write_bytes(encode_png(draw_contours(frame.image, masks_KHW)))
        pixels = frame.image[frame.rows, frame.columns].size
        for class_name, mask in zip(classes, masks_KHW, strict=True):
            mask_name = f"{name}-{_word(class_name)}.png"
            _write_mask(out / MASKS / mask_name, mask)
            area = int(mask.sum())
            scale = frame.pixel_mm2
            yield {
                "frame": number,
                "class": class_name,
                "area_px": area,
                "area_fraction": f"{area / pixels:.6f}",
                "area_mm2": "" if scale is None else f"{area * scale:.3f}",
                "mask": f"{MASKS}/{mask_name}",
            }


def _told_alone(frames: Iterator[NativeFrame]) -> Iterator[tuple[NativeFrame, bool]]:
    """Each frame, and whether it is the only one of its file; reads one frame ahead."""
    previous, count = next(frames, None), 1
    for frame in frames:
        assert previous is not None
        yield previous, False
        previous, count = frame, count + 1
    if previous is not None:
        yield previous, count == 1


def _write_mask(path: Path, mask_HW: NDArray[np.bool_]) -> None:
    done, encoded = cv2.imencode(".png", mask_HW.astype(np.uint8) * np.uint8(255))
    assert done
    path.write_bytes(encoded.tobytes())


def _word(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)


def _relative(path: Path, images: Path) -> str:
    return path.name if path == images else path.relative_to(images).as_posix()
