"""What in a file could identify somebody, by kind and by the names of entries: never what an entry holds."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pydicom
from PIL import ExifTags, Image, TiffTags
from pydicom.datadict import keyword_for_tag

from uscl.data.ingest.allowed import ALLOWED
from uscl.data.ingest.dicom import DICOM_SUFFIXES, is_dicom
from uscl.data.ingest.dicom_header import quiet_pydicom
from uscl.data.ingest.masks import IMAGE_SUFFIXES, read_grey
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.overlay import has_text
from uscl.data.ingest.scanners import strips_to_blank
from uscl.data.ingest.video import VIDEO_SUFFIXES, video_frames
from uscl.errors import DataError

_FRAMES_LOOKED_AT = 60
_JSON_BYTES = 64 << 20
"""A larger JSON is not opened."""
_IDENTIFYING_VR = frozenset(("PN", "DA", "TM", "DT", "AS"))
_IDENTIFYING = re.compile(
    r"Patient|Physician|Operator|Person|Institution|Station|Address|Telephone|Accession|Comment|Description|"
    r"Serial|InstanceUID|StudyID|AdmissionID|Requested|Protocol|Insurance|Occupation|History|Allergies|Department"
)
"""Keywords of the basic profile of PS3.15 Annex E, by their parts."""
_TECHNICAL_TAGS = frozenset(
    ("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "language", "duration", "loop")
) | {"handler_name", "isft", "bps", "number_of_frames", "number_of_bytes", "_statistics_tags"}
_TECHNICAL_PICTURE = frozenset(
    ("dpi", "gamma", "jfif", "jfif_version", "jfif_unit", "jfif_density", "progression", "progressive", "transparency")
) | {"background", "compression", "resolution", "srgb", "chromaticity", "icc_profile", "interlace", "aspect", "adobe"}
_TECHNICAL_PICTURE |= {"adobe_transform", "default_image", "duration", "loop", "version", "extension", "mp", "mpoffset"}
"""Not `photoshop`: it may hold a caption."""
_TIFF_TEXT = frozenset((269, 270, 271, 272, 285, 305, 306, 315, 316, 33432, 50838, 50839))
"""Document name, description, make, model, page, software, date, artist, host, copyright, ImageJ's two."""
_TECHNICAL_META = re.compile(
    "Object|NDims|Binary|Compress|Transform|Offset|Center|Anatomical|Element|DimSize|Header|Modality"
)
_DATE_IN_NAME = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d)(?!\d)"
)
_PERSON_IN_NAME = re.compile(
    r"\^|(?<![A-Za-z])[A-Z]{3,}[_ ,]+[A-Z]{3,}(?![A-Za-z])|(?<![A-Za-z])[A-Z][a-z]{2,},[ _]?[A-Z]"
)
_WORDS = frozenset(("IMAGE", "IMG", "CLIP", "CINE", "VIDEO", "FRAME", "MASK", "TEST", "TRAIN", "DICOM", "FILE", "SCAN"))


@dataclass(frozen=True)
class Trace:
    """One kind of entry in one file, with the names of the entries and how often each occurs."""

    kind: str
    entries: Mapping[str, int]
    action: str
    """What an import does with it."""

    def __str__(self) -> str:
        """`DICOM elements: PatientName, StudyDate and 12 more: dropped`."""
        shown = [f"{name} x {count}" if count > 1 else name for name, count in self.entries.items()]
        more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
        named = f" ({', '.join(shown[:6])}{more})" if shown else ""
        return f"{self.kind}{named}: {self.action}"


def traces_of(path: Path, name: str) -> Iterator[Trace]:
    """Everything found in the file at `path`, called `name` below the folder. DataError where it cannot be read."""
    yield from _name_traces(name)
    suffix = path.suffix.lower()
    readers: list[tuple[bool, Callable[[Path], Iterator[Trace]]]] = [
        (suffix in DICOM_SUFFIXES or (not suffix and is_dicom(path)), _dicom_traces),
        (suffix in VIDEO_SUFFIXES, _video_traces),
        (suffix in IMAGE_SUFFIXES, _picture_traces),
        (suffix == ".json", _json_traces),
        (name.lower().endswith((".nii", ".nii.gz")), _nifti_traces),
        (suffix in (".mhd", ".mha"), _meta_image_traces),
    ]
    for applies, read in readers:
        if applies:
            yield from read(path)
            return


def _name_traces(name: str) -> Iterator[Trace]:
    found = Counter[str]()
    for part in Path(name).parts:
        found["a date"] += len(_DATE_IN_NAME.findall(part))
        words = _PERSON_IN_NAME.findall(Path(part).stem)
        found["what looks like a person's name"] += sum(not _WORDS & set(re.split(r"[_ ,]+", word)) for word in words)
    found = +found
    if found:
        yield Trace("file name", found, "replaced by a pseudonym, unless --keep-names")


def _dicom_traces(path: Path) -> Iterator[Trace]:
    try:
        with quiet_pydicom():
            header = pydicom.dcmread(path, stop_before_pixels=True)
            elements, private = _identifying(header)
    except Exception as error:  # pydicom raises what its parts raise, and quotes headers
        raise DataError(f"{path}: cannot be read as DICOM ({type(error).__name__})") from error
    if elements:
        kept = {"PatientID"} & set(elements)
        yield Trace("DICOM elements", elements, "dropped" + ("; PatientID becomes a pseudonym" if kept else ""))
    if private:
        yield Trace("private DICOM elements", private, "dropped")
    try:
        strips = strips_to_blank(header, ClipOptions(1), path)
    except DataError:
        yield Trace("burned-in text", {}, "refused: scanner unknown or screen captured; --blank-top or --keep-overlay")
    else:
        if strips:
            yield Trace("burned-in text", {}, "the strip of this scanner is blanked")


def _identifying(header: pydicom.Dataset) -> tuple[Counter[str], Counter[str]]:
    """Elements with a value, at every depth: those that identify by keyword, and private ones by group."""
    elements, private = Counter[str](), Counter[str]()
    for element in header.iterall():
        keyword = keyword_for_tag(element.tag)
        if element.tag.is_private:
            private[f"group {element.tag.group:04x}"] += 1
        elif element.VR == "SQ" or not str(element.value or ""):
            continue
        elif keyword == "PatientID" or (
            keyword not in ALLOWED and (element.VR in _IDENTIFYING_VR or _IDENTIFYING.search(keyword))
        ):
            elements[keyword] += 1
    return elements, private


def _video_traces(path: Path) -> Iterator[Trace]:
    try:
        with av.open(str(path)) as container:
            keys = Counter(key for key in container.metadata if key.lower() not in _TECHNICAL_TAGS)
            for stream in container.streams:
                keys.update(key for key in stream.metadata if key.lower() not in _TECHNICAL_TAGS)
            others = Counter(str(stream.type) for stream in container.streams if stream.type != "video")
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a video ({type(error).__name__})") from error
    if keys:
        yield Trace("container tags", _plain(keys), "dropped")
    if others:
        yield Trace("tracks beside the pictures", others, "dropped")
    darkest: np.ndarray | None = None
    for frame in islice(video_frames(path), _FRAMES_LOOKED_AT):
        darkest = frame.image if darkest is None else np.minimum(darkest, frame.image)
    if darkest is not None and has_text(darkest):
        yield Trace("burned-in text", {}, "blanked outside the sector, unless --keep-overlay; look")


def _picture_traces(path: Path) -> Iterator[Trace]:
    try:
        with Image.open(path) as image:
            exif = Counter(ExifTags.TAGS.get(tag, f"tag {tag}") for tag in image.getexif())
            chunks = Counter(str(key) for key in image.info if str(key).lower() not in _TECHNICAL_PICTURE | {"exif"})
            tiff = Counter(_tiff_name(tag) for tag in getattr(image, "tag_v2", {}) if tag in _TIFF_TEXT)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({type(error).__name__})") from error
    is_tiff = path.suffix.lower() in (".tif", ".tiff")  # Pillow gives a TIFF's own tags as EXIF
    if exif and not is_tiff:
        yield Trace("EXIF", exif, "dropped")
    if chunks:
        yield Trace("text chunks", _plain(chunks), "dropped")
    if tiff:
        yield Trace("TIFF tags", tiff, "dropped")
    if has_text(read_grey(path)[0]):
        yield Trace("burned-in text", {}, "kept in a labelled image, blanked outside the sector of a clip; look")


def _json_traces(path: Path) -> Iterator[Trace]:
    if path.stat().st_size > _JSON_BYTES:
        raise DataError(f"{path}: larger than {_JSON_BYTES >> 20} MB, not looked at")
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({type(error).__name__})") from error
    if isinstance(document, dict) and document.get("imageData"):
        yield Trace("embedded picture", {"imageData": 1}, "dropped")


def _nifti_traces(path: Path) -> Iterator[Trace]:
    """Free text of a NIfTI-1 header (348 bytes), by its published layout."""
    fields = {"data_type": (4, 10), "db_name": (14, 18), "descrip": (148, 80), "aux_file": (228, 24)}
    fields |= {"intent_name": (328, 16)}
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            head = file.read(348)
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as NIfTI ({type(error).__name__})") from error
    if len(head) < 348 or 348 not in struct.unpack("<i", head[:4]) + struct.unpack(">i", head[:4]):
        raise DataError(f"{path}: has no NIfTI-1 header")
    found = Counter(name for name, (start, size) in fields.items() if head[start : start + size].strip(b"\0 "))
    if found:
        yield Trace("NIfTI header text", found, "dropped")


def _meta_image_traces(path: Path) -> Iterator[Trace]:
    """Keys of a MetaImage header that say nothing of pixels."""
    with path.open("rb") as file:
        lines = file.read(1 << 16).split(b"ElementDataFile")[0].splitlines()
    keys = Counter(line.split(b"=")[0].strip().decode("ascii", "replace") for line in lines if b"=" in line)
    found = {key: count for key, count in keys.items() if not _TECHNICAL_META.match(key)}
    if found:
        yield Trace("MetaImage header entries", _plain(Counter(found)), "dropped")


def _tiff_name(tag: int) -> str:
    return {50838: "ImageJ metadata", 50839: "ImageJ metadata"}.get(tag) or TiffTags.lookup(tag).name


def _plain(keys: Counter[str]) -> dict[str, int]:
    """Keys as the file names them, where they look like keys: a long one could be a text of its own."""
    counts = Counter[str]()
    for key, count in keys.items():
        counts[key if re.fullmatch(r"[A-Za-z][\w .:-]{0,31}", key) else "a key of its own"] += count
    return dict(counts)
