"""`uscl sensitivity` as a user types it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from uscl.cli.sensitivity import sensitivity
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from clip_files import make_dataset


@pytest.fixture
def squares(tmp_path):
    """Two images of other sizes than the dataset's frames; one class is in one of them only."""
    masks = np.zeros((2, 40, 50), bool)
    masks[0, 10:20, 10:20] = True
    masks[1, 12:15, 12:15] = True
    with DatasetWriter(tmp_path / "d", name="squares", classes=("a", "b"), size=32) as out:
        for number, shown in enumerate((masks, masks * [[[True]], [[False]]])):
            image = np.full((40, 50), 7 + number, np.uint8)
            out.add_case(image, shown, case=f"c{number}", patient=f"p{number}")
        out.close()
    return tmp_path / "d"


def run(*words):
    result = CliRunner().invoke(sensitivity, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_line_per_class(squares):
    lines = run(squares, "--pixels", 1).splitlines()
    assert lines[0] == "squares: DSC of moved boundaries, 2 labelled images at native size"
    assert [line.split()[:3] for line in lines[2:]] == [["a", "2", "100"], ["b", "1", "9"]]
    assert "0.780 ± 0.000" in lines[2] and lines[3].split()[3] == "0.200"


def test_json_has_every_number(squares):
    found = json.loads(run(squares, "--json"))
    assert found["dataset"] == "squares" and len(found["rows"]) == 2 * 2 * 2
    row = next(row for row in found["rows"] if row["class_name"] == "b" and row["pixels"] == 10)
    assert [row[key] for key in ("change", "cases", "dsc_mean", "dsc_sd", "vanished")] == ["erosion", 1, 0.0, None, 1]


def test_a_dataset_without_labels_is_refused(tmp_path):
    clips = make_dataset(tmp_path / "clips", size=32, clips=2, cases=0)
    with pytest.raises(DataError, match=r"has no labelled images; sensitivity is about their masks$"):
        run(clips)
