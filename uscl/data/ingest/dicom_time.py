"""Frame times of a DICOM cine by its header, or unknown: no rate is ever assumed (data-formats.md 2)."""

from __future__ import annotations

import numpy as np
import pydicom

from uscl.data.ingest.dicom_header import element, number

MIN_STEP_MS, MAX_STEP_MS = 0.05, 10_000.0
"""Steps between frames outside of these are no frame times: ultrafast imaging ends at 20,000 frames/s."""
_VECTOR_TAG = 0x00181065


def frame_times(
    header: pydicom.Dataset, count: int, *, frame_rate_hz: float | None = None
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """(T,) ms of `count` frames from the first on, and remarks; None for a still and where nothing says.

    By FrameTime, FrameTimeVector, CineRate, RecommendedDisplayFrameRate, then the rate that the user gives. The
    vector comes first where FrameIncrementPointer names it. What is absurd is passed over with a remark.
    """
    if count < 2:
        return None, ()
    remarks: list[str] = []
    sources = [_by_step, _by_vector] if not _vector_first(header) else [_by_vector, _by_step]
    for source in (*sources, _by_rate):
        times = source(header, count, remarks)
        if times is not None:
            return times, tuple(remarks)
    if frame_rate_hz:
        return np.arange(count) * (1000.0 / frame_rate_hz), (*remarks, "no frame time in the header: rate as given")
    return None, (*remarks, "no frame time in the header: unknown")


def _vector_first(header: pydicom.Dataset) -> bool:
    return str(element(header, "FrameIncrementPointer")) in (str(pydicom.tag.Tag(_VECTOR_TAG)), str(_VECTOR_TAG))


def _by_step(header: pydicom.Dataset, count: int, remarks: list[str]) -> np.ndarray | None:
    if element(header, "FrameTime") is None:
        return None
    step = number(header, "FrameTime")
    if step is None or not MIN_STEP_MS <= step <= MAX_STEP_MS:
        remarks.append("FrameTime in the header is impossible: not used")
        return None
    return np.arange(count) * step


def _by_vector(header: pydicom.Dataset, count: int, remarks: list[str]) -> np.ndarray | None:
    """Cumulative: each entry is the time since the frame before, the first 0 (whatever it says)."""
    vector = element(header, "FrameTimeVector")
    if vector is None:
        return None
    values = list(vector) if isinstance(vector, pydicom.multival.MultiValue) else [vector]
    if len(values) != count:
        remarks.append("FrameTimeVector in the header is not as long as the clip: not used")
        return None
    try:
        steps = np.array([float(str(value)) for value in values[1:]])
    except ValueError:
        steps = np.zeros(1)
    if not np.all((steps >= MIN_STEP_MS) & (steps <= MAX_STEP_MS)):
        remarks.append("FrameTimeVector in the header holds impossible steps: not used")
        return None
    return np.concatenate([[0.0], np.cumsum(steps)])


def _by_rate(header: pydicom.Dataset, count: int, remarks: list[str]) -> np.ndarray | None:
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = number(header, name)
        if rate is not None and MIN_STEP_MS <= 1000.0 / max(rate, 1e-9) <= MAX_STEP_MS:
            return np.arange(count) * (1000.0 / rate)
        if element(header, name) is not None:
            remarks.append(f"{name} in the header is impossible: not used")
    return None
