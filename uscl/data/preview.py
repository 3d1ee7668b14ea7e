"""A contact sheet: labelled images with their masks outlined, clips as a row of frames with their sector.

What of a frame is seen and lies outside its sector is tinted: text, marks, and what the sector misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from uscl.data.dataset import Dataset
from uscl.data.letterbox import Letterbox
from uscl.data.overlay import COLOURS, encode_png, outline
from uscl.data.raters import raters_of
from uscl.data.wording import listed
from uscl.errors import DataError

TILE_PX = 192
_CAPTION_PX = 16
_COLUMNS = 6
_SECTOR_COLOUR = (110, 110, 110)
_OVERLAY_COLOUR = (213, 50, 50)
_SEEN = 12
"""Grey level from which a pixel outside the sector is tinted: resizing leaves less."""


def draw_masks(grey: np.ndarray, masks: np.ndarray, *, thickness: int = 1) -> np.ndarray:
    """`grey` (H, W) uint8 with the outline of each mask (K, H, W) in its class's colour -> (H, W, 3) RGB."""
    picture = np.repeat(grey[..., None], 3, axis=2).copy()
    for mask, colour in zip(masks, COLOURS, strict=False):
        outline(picture, mask, colour, thickness=thickness)
    return picture


def contact_sheet(dataset: Dataset, *, num_cases: int = 24, num_clips: int = 6) -> np.ndarray:
    """(H, W, 3) RGB: cases spread over the dataset, then clips as rows of 6 frames spread over time.

    DataError where the dataset holds neither.
    """
    cases = [row["case"] for row in dataset.case_rows]
    clips = [row["clip"] for row in dataset.clip_rows]
    tiles = [_case_tile(dataset, name) for name in _spread(cases, num_cases)]
    tiles += [_blank()] * (-len(tiles) % _COLUMNS)
    for name in _spread(clips, num_clips):
        tiles += _clip_tiles(dataset, name)
    if not tiles:
        raise DataError(f"{dataset.path}: holds neither clips nor labelled images to show")
    rows = [np.concatenate(tiles[start : start + _COLUMNS], axis=1) for start in range(0, len(tiles), _COLUMNS)]
    return np.concatenate([_legend(dataset, rows[0].shape[1]), *rows], axis=0)


def tint_overlay(picture: np.ndarray, grey: np.ndarray, sector: np.ndarray) -> None:
    """Tint what `grey` (H, W) uint8 shows outside `sector` (H, W) bool in the RGB `picture`, in place."""
    overlay = (grey >= _SEEN) & ~sector
    picture[overlay] = (picture[overlay] // 2 + np.array(_OVERLAY_COLOUR) // 2).astype(np.uint8)


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write RGB `picture`. DataError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(picture))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _spread(names: Sequence[str], count: int) -> list[str]:
    """`count` of them, evenly over the list."""
    positions = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
    return [names[position] for position in positions]


def _case_tile(dataset: Dataset, name: str) -> np.ndarray:
    case = dataset.case(name)
    entry = next(entry for entry in dataset.index.cases if entry.case == name)
    box = Letterbox.of(case.image, TILE_PX)
    picture = draw_masks(box.to_square(case.image), box.to_square(case.masks, "nearest"))
    return _captioned(picture, f"{name} (copy)" if entry.excluded else name)


def _clip_tiles(dataset: Dataset, name: str) -> list[np.ndarray]:
    clip = dataset.clip_table[name]
    numbers = np.linspace(0, clip.num_frames - 1, _COLUMNS).round().astype(int)
    tiles = []
    for number, frame in zip(numbers, dataset.frames(clip.first_row + numbers), strict=True):
        box = Letterbox.of(frame, TILE_PX)
        picture = np.repeat(box.to_square(frame)[..., None], 3, axis=2).copy()
        sector = box.to_square(clip.sector, "nearest")
        outline(picture, sector, _SECTOR_COLOUR)
        tint_overlay(picture, box.to_square(frame), sector)
        time = clip.times_ms[number]
        when = f"frame {number}" if np.isnan(time) else f"{time / 1000:.2f} s"
        tiles.append(_captioned(picture, name if number == 0 else when))
    return tiles


def _captioned(picture: np.ndarray, text: str) -> np.ndarray:
    strip = np.full((_CAPTION_PX, picture.shape[1], 3), 24, np.uint8)
    _write(strip, text if len(text) <= 28 else f"..{text[-26:]}", 3, (220, 220, 220))
    return np.concatenate([picture, strip], axis=0)


def _blank() -> np.ndarray:
    return np.full((TILE_PX + _CAPTION_PX, TILE_PX, 3), 24, np.uint8)


def _legend(dataset: Dataset, width: int) -> np.ndarray:
    strip = np.full((24, width, 3), 24, np.uint8)
    text = f"{dataset.name}: {len(dataset.index.cases)} labelled, {len(dataset.index.clips)} clips"
    raters = raters_of(dataset.index)
    text += f", raters {listed(raters, shown=4)}" if raters else ""
    _write(strip, text, 6, (255, 255, 255), baseline=16)
    left = 12 + 7 * len(text)
    marks = [("outside the sector", _OVERLAY_COLOUR)] if dataset.index.clips else []
    for name, colour in [*zip(dataset.classes, COLOURS, strict=False), *marks]:
        _write(strip, name, left, colour, baseline=16)
        left += 12 + 7 * len(name)
    return strip


def _write(strip: np.ndarray, text: str, left: int, colour: tuple[int, int, int], *, baseline: int = 11) -> None:
    cv2.putText(strip, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.36, colour, 1, cv2.LINE_AA)
