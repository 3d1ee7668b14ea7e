"""DICOM files that tests write, and where pydicom's own lie."""

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset as Header
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian

from uscl.data.ingest.dicom import read_dicom
from uscl.data.ingest.options import ClipOptions

US_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("3", "3.1", "6", "6.1", "6.2"))


def example(name):
    return Path(get_testdata_file(name, download=False))


def extra_files():
    """Folder of pydicom-data; None where it is not installed."""
    found = find_spec("data_store")
    return Path(found.origin).parent / "data" if found and found.origin else None


def read(path, size=64, **options):
    """With all that is written in the picture, unless `options` say otherwise."""
    (clip,) = read_dicom(path, ClipOptions(size, **{"keep_overlay": True, **options}))
    return clip


def region(left, top, right, bottom, *, kind=1, form=1, units=3, delta=0.02, across=None):
    item = Header()
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    item.RegionSpatialFormat, item.RegionDataType = form, kind
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta if across is None else across, delta
    return item


def cine_header(frames, syntax=ExplicitVRLittleEndian):
    """Of `frames` (T, H, W) or (T, H, W, 3), 8 or 16 bits; without pixel data."""
    header = Header()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID, header.SOPInstanceUID = US_CLASSES[1], "1.2.3"
    header.Modality, header.PatientName, header.PatientID = "US", "SECRETNAME", "SECRETID"
    header.PatientIdentityRemoved = "YES"
    header.Rows, header.Columns = frames.shape[1:3]
    header.NumberOfFrames, header.SamplesPerPixel = len(frames), 3 if frames.ndim == 4 else 1
    header.PhotometricInterpretation = "RGB" if frames.ndim == 4 else "MONOCHROME2"
    if frames.ndim == 4:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = frames.dtype.itemsize * 8
    header.HighBit, header.PixelRepresentation = header.BitsStored - 1, int(frames.dtype.kind == "i")
    return header


def save(header, path, **tags):
    for name, value in tags.items():
        setattr(header, name, value)
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.is_private or syntax.is_little_endian:
        header.save_as(path, enforce_file_format=True)
    else:
        header.save_as(path, enforce_file_format=True, little_endian=False, implicit_vr=False)
    return path


def write_cine(path, frames, **tags):
    """Uncompressed."""
    header = cine_header(frames)
    header.PixelData = frames.tobytes() + bytes(frames.nbytes % 2)
    header["PixelData"].VR = "OW" if frames.dtype.itemsize == 2 else "OB"
    return save(header, path, **tags)


def write_codestreams(path, frames, codestreams, syntax, *, fragments=1, offset_table=False, **tags):
    """`codestreams`, one per frame, each cut into `fragments`."""
    header = cine_header(frames, syntax)
    header.PixelData = encapsulate(codestreams, fragments_per_frame=fragments, has_bot=offset_table)
    header["PixelData"].VR = "OB"
    return save(header, path, **tags)


def jpeg(frame, **options):
    return _coded(frame, "JPEG", quality=95, **options)


def jpeg2000(frame):
    return _coded(frame, "JPEG2000", no_jp2=True)


def blobs(count=6, height=60, width=80):
    """(T, H, W, 3) uint8: a blob that wanders over a smooth picture with some colour."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for t in range(count):
        blob = 120 * np.exp(-((x - 20 - 5 * t) ** 2 + (y - 30) ** 2) / 90)
        frames.append(np.stack([40 + blob + x * 0.5, 40 + blob, 40 + blob + y * 0.5], axis=-1))
    return np.clip(frames, 0, 255).astype(np.uint8)


def grey_of(rgb):
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


def header_of(path):
    return pydicom.dcmread(path)


def _coded(frame, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, kind, **options)
    return stream.getvalue()
