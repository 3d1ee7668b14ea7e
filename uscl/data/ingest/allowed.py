"""What of a file's header is read at all, and what of that may enter a dataset: everything else is dropped first.

A dataset holds pixels, times, scale, sizes, names given by the user and pseudonyms; nothing else is ever written.
Videos give pixels, presentation stamps and pixel aspect, never container tags; images give pixels and which way is
up; volumes give voxels and spacing.
"""

from __future__ import annotations

import pydicom
from pydicom.datadict import dictionary_VR, keyword_for_tag

PIXELS = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "AlphaPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "AlphaPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SegmentedAlphaPaletteColorLookupTableData",
    "PaletteColorLookupTableUID",
    "PixelAspectRatio",
    "PixelPaddingValue",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
)
"""To turn stored bytes into grey levels."""

TIME = (
    "FrameTime",
    "FrameTimeVector",
    "FrameIncrementPointer",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "ActualFrameDuration",
    "StartTrim",
    "StopTrim",
)
"""Durations and rates; never a date or a time of day."""

SCALE = (
    "SequenceOfUltrasoundRegions",
    "RegionLocationMinX0",
    "RegionLocationMinY0",
    "RegionLocationMaxX1",
    "RegionLocationMaxY1",
    "RegionSpatialFormat",
    "RegionDataType",
    "RegionFlags",
    "PhysicalUnitsXDirection",
    "PhysicalUnitsYDirection",
    "PhysicalDeltaX",
    "PhysicalDeltaY",
    "PixelSpacing",
    "ImagerPixelSpacing",
)
"""Where B-mode lies in the picture and how large a pixel is."""

LOOKED_AT = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "ConversionType",
    "BurnedInAnnotation",
    "PatientIdentityRemoved",
    "DeidentificationMethodCodeSequence",
    "CodeValue",
    "Manufacturer",
    "ManufacturerModelName",
    "PatientID",
)
"""Decide whether and how a file is read; never stored, never said. PatientID leaves as a pseudonym only."""

ALLOWED = frozenset((*PIXELS, *TIME, *SCALE, *LOOKED_AT))
"""Keywords of the DICOM elements that an importer sees."""


def keep_allowed(header: pydicom.Dataset) -> pydicom.Dataset:
    """`header` itself without any element outside ALLOWED, at every depth; private elements have no keyword and go.

    A sequence that cannot be read goes, too; other values are not looked at.
    """
    for tag in list(header.keys()):
        if keyword_for_tag(tag) not in ALLOWED:
            del header[tag]
        elif dictionary_VR(tag) == "SQ":
            try:
                for item in header[tag].value:
                    keep_allowed(item)
            except Exception:  # values are converted when first asked for, and pydicom raises what it likes
                del header[tag]
    return header
