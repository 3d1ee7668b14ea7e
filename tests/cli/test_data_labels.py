"""`uscl data import labels` and `nnunet` with the options about masks, as a user types them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from clip_files import speckle, write_pair

from uscl.cli.data import data
from uscl.data.dataset import open_dataset
from uscl.errors import DataError


def run(*words):
    result = CliRunner().invoke(data, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def mask(value, side=8):
    values = np.zeros((20, 20), np.uint8)
    values[4 : 4 + side, 4 : 4 + side] = value
    return values


def test_decisions_and_thresholds_are_options(tmp_path, rng):
    write_pair(tmp_path / "in", "a", speckle(rng, 20, 20), np.kron(mask(200), np.ones((2, 2), np.uint8)))
    write_pair(tmp_path / "in", "b", speckle(rng, 20, 20), mask(0))
    write_pair(tmp_path / "in", "c", speckle(rng, 20, 20), mask(200))
    (tmp_path / "in" / "masks" / "c.png").unlink()
    words = ("import", "labels", tmp_path / "in", tmp_path / "out", "--classes", "255=nerve", "--threshold", 150)
    words += ("--keep-names",)
    with pytest.raises(DataError, match="--unlisted skip"):
        run(*words)
    with pytest.raises(DataError, match="--mask-size resize-nearest"):
        run(*words, "--unlisted", "skip", "--strict")
    with pytest.raises(DataError, match="--empty absent keeps"):
        run(*words, "--unlisted", "skip", "--mask-size", "resize-nearest")
    said = run(*words, "--unlisted", "skip", "--mask-size", "resize-nearest", "--empty", "absent")
    assert "2 labelled images (nerve)" in said and "1 empty mask: kept" in said
    assert open_dataset(tmp_path / "out").case("a").masks.sum() == 64


def test_class_folders_name_the_classes(tmp_path, rng):
    write_pair(tmp_path / "in", "a", speckle(rng, 20, 20), mask(1))
    (tmp_path / "in" / "masks" / "a.png").unlink()
    for name, side in (("kidney", 8), ("cyst", 2)):
        (tmp_path / "in" / "masks" / name).mkdir()
        Image.fromarray(mask(255, side)).save(tmp_path / "in" / "masks" / name / "a.png")
    run("import", "labels", tmp_path / "in", tmp_path / "out", "--subfolders", "class", "--contains", "kidney=cyst")
    dataset = open_dataset(tmp_path / "out")
    assert (dataset.classes, dataset.index.contains) == (("cyst", "kidney"), {"kidney": ("cyst",)})


def test_raters_and_their_consensus_reach_info(tmp_path, rng):
    for number in range(4):
        write_pair(tmp_path / "in", str(number), speckle(rng, 20, 20), mask(1))
        (tmp_path / "in" / "masks" / f"{number}.png").unlink()
        for rater in ("r1", "r2"):
            (tmp_path / "in" / "masks" / rater).mkdir(exist_ok=True)
            Image.fromarray(mask(1)).save(tmp_path / "in" / "masks" / rater / f"{number}.png")
    words = ("import", "labels", tmp_path / "in", tmp_path / "out", "--classes", "1=nerve", "--subfolders", "rater")
    run(*words, "--consensus", "majority")
    assert "raters      r1 4, r2 4, consensus 4; of 4 images" in run("info", tmp_path / "out")
    facts = json.loads(run("info", tmp_path / "out", "--json"))
    assert facts["cases"]["pictures"] == 4 and facts["splits"]["train"]["cases"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--consensus", "majority"), "--consensus needs several raters: --subfolders rater"),
        (("--subfolders", "rater", "--mask-pattern", "{stem}_m.png"), "two ways to lay out masks; give one"),
        (("--empty", "maybe"), "'maybe' is not one of 'absent', 'skip'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, message):
    (tmp_path / "in").mkdir()
    words = ["import", "labels", str(tmp_path / "in"), str(tmp_path / "out"), *options]
    result = CliRunner().invoke(data, words)
    assert result.exit_code == 2 and message in result.output


def test_an_nnunet_folder_is_one_command(tmp_path, rng):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / "in" / name).mkdir(parents=True)
    for number in range(3):
        Image.fromarray(speckle(rng, 20, 20)).save(tmp_path / "in" / "imagesTr" / f"k{number}_0000.png")
        Image.fromarray(mask(1 + number % 2)).save(tmp_path / "in" / "labelsTr" / f"k{number}.png")
    labels = {"background": 0, "kidney": [1, 2], "cortex": 2}
    document = {"labels": labels, "channel_names": {"0": "B-mode"}, "file_ending": ".png", "numTraining": 3}
    (tmp_path / "in" / "dataset.json").write_text(json.dumps(document))
    rows = "".join(f"imagesTr/k{number}_0000.png,p{number}\n" for number in range(3))
    (tmp_path / "who.csv").write_text(f"image,patient\n{rows}")
    said = run("import", "nnunet", tmp_path / "in", tmp_path / "out", "--csv", tmp_path / "who.csv")
    assert "3 labelled images (kidney, cortex)" in said
    dataset = open_dataset(tmp_path / "out")
    assert dataset.index.contains == {"kidney": ("cortex",)}
    assert [case.patient for case in dataset.index.cases] == ["p0", "p1", "p2"]
