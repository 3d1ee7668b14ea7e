"""Text of known scanners is blanked; unknown ones and screen captures are refused, without a header value."""

import numpy as np
import pytest
from dicom_files import write_cine
from pydicom.dataset import Dataset as Header
from pydicom.sequence import Sequence

from uscl.data.ingest.dicom import read_dicom
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.scanners import KNOWN_SCANNERS, find_scanner, is_secondary_capture, says_clean, strips_to_blank
from uscl.errors import DataError


def scanner(**tags):
    header = Header()
    for name, value in tags.items():
        setattr(header, name, value)
    return header


@pytest.mark.parametrize(
    ("maker", "model", "strip"),
    [
        ("Philips Medical Systems", "EPIQ 7C", (0.06, 1)),
        ("Philips", "iU22", (0.1, 1)),
        ("G.E. Medical Systems", "LOGIQ E9", (0.1, 1)),
        ("GE Healthcare", "LOGIQE9", (0.1, 1)),
        ("TOSHIBA_MEC_US", "TUS-A500", (0.08, 0.85)),
        ("ACUSON", "SEQUOIA", (0.061, 0.6)),
        ("SIEMENS", "S2000", (0.075, 0.4)),
        ("G.E. Medical Systems", "LOGIQ 700", None),
        ("SonoSite, Inc.", "Turbo", None),
        ("", "EPIQ", None),
        ("Philips", "", None),
    ],
)
def test_scanners_are_known_by_maker_and_model(maker, model, strip):
    found = find_scanner(scanner(Manufacturer=maker, ManufacturerModelName=model))
    assert (None if found is None else (found.strip.height, found.strip.width)) == strip
    assert all(0 < entry.strip.height < 0.2 for entry in KNOWN_SCANNERS)


@pytest.mark.parametrize(
    ("tags", "clean"),
    [
        ({"PatientIdentityRemoved": "YES"}, True),
        ({"PatientIdentityRemoved": "YES", "BurnedInAnnotation": "YES"}, False),
        ({"BurnedInAnnotation": "NO"}, False),
        ({"PatientIdentityRemoved": "NO", "BurnedInAnnotation": "NO"}, False),
        ({"DeidentificationMethodCodeSequence": Sequence([scanner(CodeValue="113101")])}, True),
        ({"DeidentificationMethodCodeSequence": Sequence([scanner(CodeValue="113100")])}, False),
    ],
)
def test_what_counts_as_de_identified(tags, clean):
    assert says_clean(scanner(**tags)) is clean


def test_secondary_captures_are_refused(tmp_path):
    assert is_secondary_capture(scanner(SOPClassUID="1.2.840.10008.5.1.4.1.1.7.4"))
    assert is_secondary_capture(scanner(ConversionType="WSD"))
    assert not is_secondary_capture(scanner(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.4"))
    known = scanner(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Manufacturer="Philips", ManufacturerModelName="EPIQ 5")
    with pytest.raises(DataError, match="is a secondary capture"):
        strips_to_blank(known, ClipOptions(8), tmp_path)
    assert strips_to_blank(known, ClipOptions(8, keep_overlay=True), tmp_path) == ()


def read(path, **options):
    (clip,) = read_dicom(path, ClipOptions(100, **options))
    return clip


def test_a_known_scanner_is_blanked_and_an_unknown_one_refused(tmp_path, rng):
    frames = rng.integers(40, 256, (3, 100, 100), dtype=np.uint8)
    tags = {"PatientIdentityRemoved": "NO", "Manufacturer": "SIEMENS", "ManufacturerModelName": "S2000"}
    path = write_cine(tmp_path / "a.dcm", frames, **tags)
    seen = read(path).frames
    assert not seen[:, :8, :40].any() and seen[:, :8, 45:].any() and np.array_equal(seen[:, 12:], frames[:, 12:])
    path = write_cine(tmp_path / "b.dcm", frames, **tags | {"ManufacturerModelName": "S3000"})
    with pytest.raises(DataError, match=r"b\.dcm: comes from a scanner .*--blank-top 10%, .*--keep-overlay") as caught:
        read(path)
    assert "S3000" not in str(caught.value)
    assert not read(path, blank_top=0.2).frames[:, :20].any()
    kept = read(path, keep_overlay=True)
    assert np.array_equal(kept.frames, frames)
    assert any("may show text" in note for note in kept.notes)
