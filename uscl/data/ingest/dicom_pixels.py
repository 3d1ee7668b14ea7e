"""Frames of a DICOM ultrasound file, one at a time: counted in the data, decoded, brought to 8 bits and to grey."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, NamedTuple

import cv2
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from uscl.data.ingest.dicom_codestream import Span, codestream_header, compressed_frames, file_size
from uscl.data.ingest.dicom_header import DicomRefusal, PixelLayout, element, quiet_pydicom
from uscl.data.ingest.overlay import Strip, blanked

_PLUGINS = ("pillow", "pydicom", "gdcm")
"""The first that can is the one that is used, on every machine: others differ by some levels (data-formats.md 2)."""
_UNDEFINED = 0xFFFFFFFF
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114
_RGB_OF_YBR = np.array(
    [
        [1, 0, 2 * (1 - _RED), -256 * (1 - _RED)],
        [
            1,
            -2 * (1 - _BLUE) * _BLUE / _GREEN,
            -2 * (1 - _RED) * _RED / _GREEN,
            256 * ((1 - _BLUE) * _BLUE + (1 - _RED) * _RED) / _GREEN,
        ],
        [1, 2 * (1 - _BLUE), 0, -256 * (1 - _BLUE)],
    ]
)
"""Of full range (DICOM PS3.3 C.7.6.3.1.2), with its offset; within a level of pydicom's own, in a tenth of the time."""
_COUNT_NOTE = "the header's number of frames is wrong: frames were counted"


class StoredFrame(NamedTuple):
    """One frame as decoded, 8 bits."""

    grey: np.ndarray
    """(H, W) uint8."""
    rgb: np.ndarray | None
    """(H, W, 3) uint8; None where the file is grey."""


@dataclass(frozen=True)
class PixelData:
    """The frames of an open file."""

    file: BinaryIO
    layout: PixelLayout
    start: int
    """Offset of the pixel data's value."""
    value_kind: str
    spans: tuple[tuple[Span, ...], ...] | None
    """Of each compressed frame; None where frames lie uncompressed, one after the other."""
    count: int
    palette: np.ndarray | None
    """(2^bits, 3) uint8 by stored value, the lowest first."""
    notes: tuple[str, ...] = ()
    strips: tuple[Strip, ...] = ()
    """Parts of every full frame that are blanked as it is decoded: text of the scanner."""

    def __iter__(self) -> Iterator[StoredFrame]:
        """Every frame in order."""
        return (self.frame(index) for index in range(self.count))

    def frame(self, index: int) -> StoredFrame:
        """One frame. DicomRefusal, with its number, where it cannot be decoded."""
        frame = self._whole(index)
        return StoredFrame(
            blanked(frame.grey, self.strips), None if frame.rgb is None else blanked(frame.rgb, self.strips)
        )

    def _whole(self, index: int) -> StoredFrame:
        """One frame with all that is written in it."""
        stored, kind = self._decoded(index)
        if self.palette is not None:
            rgb = self.palette[stored.astype(np.int64) - np.iinfo(stored.dtype).min]
            return StoredFrame(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), rgb)
        levels = np.ascontiguousarray(_eight_bits(stored, self.layout))
        if levels.ndim == 3:
            rgb = cv2.transform(levels, _RGB_OF_YBR) if kind in ("YBR_FULL", "YBR_FULL_422") else levels
            return StoredFrame(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), rgb)
        return StoredFrame(255 - levels if kind == "MONOCHROME1" else levels, None)

    def _decoded(self, index: int) -> tuple[np.ndarray, str]:
        """(H, W) or (H, W, 3) values as stored, and what they are by the decoder: codecs turn some YBR into RGB."""
        layout, source, at = self.layout, self.file, index
        if self.spans is not None:
            layout, codestream = self._conformed(self._codestream(index), index)
            source, at = encapsulate([codestream], has_bot=False), 0
        else:
            self.file.seek(self.start)
        try:
            with quiet_pydicom():
                frame, told = get_decoder(layout.syntax).as_array(
                    source, index=at, raw=True, decoding_plugin=_plugin(layout), **self._options(layout)
                )
        except Exception as error:  # a codec fails on damaged data in whichever way it likes
            reason = f"frame {index} cannot be decoded ({layout.syntax.name}): damaged, or not what the header says"
            raise DicomRefusal(reason) from error
        return np.asarray(frame), str(told["photometric_interpretation"])

    def _codestream(self, index: int) -> bytes:
        assert self.spans is not None
        if sum(length for _, length in self.spans[index]) > 2 * self.layout.frame_bytes + 2**16:
            raise DicomRefusal(f"frame {index} is larger compressed than its pixels are")
        parts = []
        for offset, length in self.spans[index]:
            self.file.seek(offset)
            parts.append(self.file.read(length))
        return b"".join(parts)

    def _conformed(self, frame: bytes, index: int) -> tuple[PixelLayout, bytes]:
        """Layout and codestream that agree on the colour. DicomRefusal where they do not agree on the size."""
        found = codestream_header(frame)
        if found is None:
            return self.layout, frame
        if (found.height, found.width) != (self.layout.rows, self.layout.columns):
            told = f"{self.layout.columns} x {self.layout.rows}"
            raise DicomRefusal(f"frame {index} is {found.width} x {found.height} px, its header says {told}")
        layout = self.layout
        if layout.photometric == "RGB" and found.ybr and layout.syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
            layout = dataclasses.replace(layout, photometric="YBR_FULL_422")
        start, length = found.adobe
        return layout, frame[:start] + frame[start + length :]

    def _options(self, layout: PixelLayout) -> Mapping[str, Any]:
        return {
            "rows": layout.rows,
            "columns": layout.columns,
            "samples_per_pixel": layout.samples,
            "bits_allocated": layout.bits_allocated,
            "bits_stored": layout.bits_stored,
            "pixel_representation": int(layout.signed),
            "photometric_interpretation": layout.photometric,
            "planar_configuration": 0 if self.spans is not None else layout.planar,  # a codestream goes by pixel
            "number_of_frames": 1 if self.spans is not None else self.count,
            "pixel_keyword": "PixelData",
            "pixel_vr": self.value_kind,
        }


def open_pixels(file: BinaryIO, header: pydicom.Dataset, layout: PixelLayout) -> PixelData:
    """The frames of a file whose header was just read. DicomRefusal: none, truncated, or of an unsupported codec."""
    kind, length = _value_header(file, layout)
    start = file.tell()
    spans = None
    if layout.syntax.is_compressed:
        spans = _compressed(file, layout, length)
        count = len(spans)
    else:
        layout, count = _uncompressed(layout, start=start, length=length, size=file_size(file))
    palette = _palette(header, layout) if layout.photometric == "PALETTE COLOR" else None
    notes = (_COUNT_NOTE,) if count != (layout.told_frames or 1) else ()
    return PixelData(file, layout, start, kind, spans, count, palette, notes)


def _value_header(file: BinaryIO, layout: PixelLayout) -> tuple[str, int]:
    """Value representation and length of the pixel data, at whose tag `file` stands; it is left at the value."""
    little = layout.syntax.is_little_endian
    order: Literal["little", "big"] = "little" if little else "big"
    tag = [int.from_bytes(file.read(2), order) for _ in range(2)]
    if tag != [0x7FE0, 0x0010]:
        raise DicomRefusal("holds no pixel data")
    kind = ""
    if not layout.syntax.is_implicit_VR:
        kind = file.read(4)[:2].decode("ascii", "replace")
    return kind or "OW", int.from_bytes(file.read(4), order)


def _compressed(file: BinaryIO, layout: PixelLayout, length: int) -> tuple[tuple[Span, ...], ...]:
    _plugin(layout)
    start = file.tell()
    if length != _UNDEFINED and file.read(4) != b"\xfe\xff\x00\xe0":
        raise DicomRefusal(f"has uncompressed pixel data, while its header says {layout.syntax.name}")
    file.seek(start)
    frames, ended = compressed_frames(file, layout.syntax)
    if not frames:
        raise DicomRefusal("holds no pixel data")
    if not ended and len(frames) < (layout.told_frames or 1):
        raise DicomRefusal(f"is truncated: it ends after {len(frames)} whole frames")
    return tuple(tuple(frame) for frame in frames)


def _uncompressed(layout: PixelLayout, *, start: int, length: int, size: int) -> tuple[PixelLayout, int]:
    """The layout as the length of the data has it, and the number of frames."""
    if length == _UNDEFINED:
        raise DicomRefusal("has compressed pixel data, while its header says uncompressed")
    if start + length > size:
        raise DicomRefusal(f"is truncated: it ends after {(size - start) // layout.frame_bytes} whole frames")
    told = layout.told_frames or 1
    full = dataclasses.replace(layout, photometric="YBR_FULL")
    if layout.photometric == "YBR_FULL_422" and length - told * full.frame_bytes in (0, 1):
        layout = full
    count, rest = divmod(length, layout.frame_bytes)
    if not count:
        raise DicomRefusal("holds less pixel data than one frame" if length else "holds no pixel data")
    return layout, told if count > told and rest > 1 else count


def _plugin(layout: PixelLayout) -> str:
    """The codec that decodes a transfer syntax; empty for uncompressed ones. DicomRefusal where there is none."""
    name = layout.syntax.name
    try:
        decoder = get_decoder(layout.syntax)
    except NotImplementedError as error:
        raise DicomRefusal(f"is compressed as {name}, which uscl does not read: export it as JPEG or video") from error
    if not layout.syntax.is_compressed:
        return ""
    found = [*(plugin for plugin in _PLUGINS if plugin in decoder.available_plugins), *decoder.available_plugins]
    if found:
        return found[0]
    if any(line.startswith("gdcm") for line in decoder.missing_dependencies):
        raise DicomRefusal(f"is compressed as {name}; install python-gdcm to read it: pip install 'uscl[dicom]'")
    raise DicomRefusal(f"is compressed as {name}, which uscl does not read: export it as JPEG or video")


def _palette(header: pydicom.Dataset, layout: PixelLayout) -> np.ndarray:
    """(2^bits, 3) uint8 by stored value, the lowest first."""
    if layout.bits_allocated > 16:
        raise DicomRefusal(f"stores palette indices in {layout.bits_allocated} bits; 8 or 16 can be read")
    limits = np.iinfo(f"{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}")
    values = np.arange(limits.min, limits.max + 1).astype(limits.dtype)[None]
    try:
        with quiet_pydicom():
            table = apply_color_lut(values, header)[0, :, :3]
    except Exception as error:  # of numpy as well as of pydicom, by what is damaged
        raise DicomRefusal("has a colour palette that is missing or damaged") from error
    segmented = element(header, "RedPaletteColorLookupTableData") is None
    if table.dtype == np.uint16 and not layout.syntax.is_little_endian and not segmented:
        table = table.byteswap()  # pydicom 3.0 takes entries as little-endian, in segments only by the file's order
    return np.ascontiguousarray(table >> 8 if table.max() > 255 else table, np.uint8)


def _eight_bits(stored: np.ndarray, layout: PixelLayout) -> np.ndarray:
    """uint8 of stored values; of signed ones the lowest is black, as DICOM has it for MONOCHROME2."""
    bits = layout.bits_stored
    if stored.dtype == np.uint8 and bits == 8:
        return stored
    values = stored.astype(np.int64) + ((1 << (bits - 1)) if layout.signed else 0)
    values = values >> (bits - 8) if bits >= 8 else values << (8 - bits)
    return np.clip(values, 0, 255).astype(np.uint8)
