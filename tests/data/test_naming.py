"""Names of files and patients: pseudonyms that agree under one salt, and the key to them beside the dataset."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from clip_files import speckle, write_pair, write_video

from uscl.data.dataset import open_dataset
from uscl.data.ingest.clips import import_clips
from uscl.data.ingest.labels import import_labels
from uscl.data.ingest.masks import parse_class_map
from uscl.data.ingest.naming import Naming, names_path, read_salt, write_names
from uscl.data.ingest.table import FileRow, find_table
from uscl.errors import DataError

SALTED = Naming(b"0123456789abcdef")


def whole(dataset):
    """Every byte of a dataset's folder, and its tables decoded."""
    dataset = Path(dataset)
    opened = open_dataset(dataset)
    raw = b"".join(path.read_bytes() for path in sorted(dataset.iterdir()))
    return raw + repr((opened.clip_rows, opened.case_rows, opened.sources, opened.licence)).encode()


def test_pseudonyms_agree_under_one_salt_only():
    one, other = SALTED, Naming(b"another salt of 16+")
    assert one.of_key("7") == SALTED.of_key("7") != other.of_key("7")
    assert re.fullmatch(r"patient-[0-9a-f]{12}", one.of_key("7"))
    assert one.of_file(Path("a/b.mp4"), "clip") != one.of_file(Path("a-b.mp4"), "clip")
    assert one.of_key(" 7 ") == one.of_key("7")  # DICOM pads


def test_without_a_salt_names_are_readable():
    assert Naming().of_file(Path("a/b c.mp4"), "clip") == "a-b_c"
    assert Naming().of_key("7") == ""
    assert Naming(b"0123456789abcdef", keep_names=True).of_file(Path("a/b c.mp4"), "clip") == "a-b_c"


def test_patients_of_a_csv_are_the_users_own_unless_hashed():
    row = FileRow(patient="7", group="g")
    assert SALTED.of_row(row) == row
    hashed = Naming(SALTED.salt, hash_patients=True)
    assert hashed.of_row(row).patient == SALTED.of_key("7")  # of a header or of a table: one patient
    assert hashed.of_row(row).group.startswith("group-")
    assert hashed.of_row(FileRow()) == FileRow()


def test_a_salt_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "deep" / "salt"
    salt, made = read_salt(path)
    assert made and len(salt) == 64 and path.stat().st_mode & 0o777 == 0o600
    assert read_salt(path) == (salt, False)


def test_what_is_no_salt_is_told(tmp_path):
    (tmp_path / "short").write_text("secret\n")
    with pytest.raises(DataError, match=r"short: holds 6 bytes, too few for a salt") as caught:
        read_salt(tmp_path / "short")
    assert "secret" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be read as a salt: Is a directory"):
        read_salt(tmp_path)
    with pytest.raises(DataError, match=r"cannot keep a salt there: .*; name another place with --salt"):
        read_salt(tmp_path / "short" / "deep" / "below")


def test_names_are_kept_beside_and_replaced_whole(tmp_path):
    for files in (["x.mp4"], ["a,b.mp4", "ü.mp4"]):
        write_names(tmp_path / "d.names.csv", [(f"clip-{n}", file) for n, file in enumerate(files)])
    with (tmp_path / "d.names.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["name", "file"], ["clip-0", "a,b.mp4"], ["clip-1", "ü.mp4"]]
    assert (tmp_path / "d.names.csv").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["d.names.csv"]
    with pytest.raises(DataError, match="cannot be written"):
        write_names(tmp_path / "nowhere" / "names.csv", [])


def test_names_of_clips_do_not_get_in(tmp_path, rng):
    (tmp_path / "in" / "MUELLER_EVA").mkdir(parents=True)
    frames = speckle(rng, 3, 32, 32)
    names = ["SMITH_JOHN_19610203.mkv", "MUELLER_EVA/scan.mkv", "copy.mkv"]
    for name in names:
        write_video(tmp_path / "in" / name, frames if name != "SMITH_JOHN_19610203.mkv" else 255 - frames)
    import_clips(tmp_path / "in", tmp_path / "out", size=32, naming=SALTED)
    content = whole(tmp_path / "out")
    assert not any(word in content for word in (b"SMITH", b"MUELLER", b"1961", b"scan", str(tmp_path).encode()))
    with names_path(tmp_path / "out").open(newline="") as file:
        key = {row["name"]: row["file"] for row in csv.DictReader(file)}
    clips = open_dataset(tmp_path / "out").index.clips
    assert sorted(key.values()) == sorted(names) and set(key) == {clip.clip for clip in clips}


def test_names_of_images_do_not_get_in(tmp_path, rng):
    for stem in ("SMITH_JOHN", "SMITH_JANE"):
        mask = np.zeros((40, 40), np.uint8)
        mask[5:20, 5:20] = 1
        write_pair(tmp_path / "in", stem, speckle(rng, 40, 40), mask)
    write_pair(tmp_path / "in", "SMITH_TWIN", np.full((40, 40), 90, np.uint8), mask)
    write_pair(tmp_path / "in", "SMITH_COPY", np.full((40, 40), 90, np.uint8), mask)
    options = {"class_map": parse_class_map("1=nerve"), "size": 32}
    import_labels(tmp_path / "in", tmp_path / "out", naming=SALTED, **options)
    assert b"SMITH" not in whole(tmp_path / "out")
    assert names_path(tmp_path / "out").read_text().count("images/SMITH_") == 4
    import_labels(tmp_path / "in", tmp_path / "plain", **options)
    assert b"SMITH" in whole(tmp_path / "plain") and not names_path(tmp_path / "plain").exists()


def test_hashed_patients_of_a_table_stay_together_and_out(tmp_path, rng):
    (tmp_path / "in").mkdir()
    for name in "abc":
        write_video(tmp_path / "in" / f"{name}.mkv", speckle(rng, 3, 32, 32))
    (tmp_path / "in" / "who.csv").write_text("file,patient,group\na.mkv,SMITH,SITEX\nb.mkv,SMITH,SITEX\nc.mkv,JONES,\n")
    table = find_table(tmp_path / "in", given=None)
    naming = Naming(SALTED.salt, hash_patients=True)
    import_clips(tmp_path / "in", tmp_path / "out", size=32, table=table, naming=naming)
    assert not any(word in whole(tmp_path / "out") for word in (b"SMITH", b"JONES", b"SITEX"))
    patients = [clip.patient for clip in open_dataset(tmp_path / "out").index.clips]
    assert len(set(patients)) == 2
