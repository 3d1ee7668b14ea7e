"""`uscl data check` and `uscl data agreement` as a user types them, and the line of two raters in a report."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from uscl.cli.data import data
from uscl.cli.main import uscl
from uscl.data.dataset import open_dataset
from uscl.data.phantom import build_phantom
from uscl.data.writer import DatasetWriter
from uscl.records import Outcome
from uscl.spec.phantom import PhantomSpec
from uscl.spec.reader import load_sweep
from uscl.store.stages import StageStore
from uscl.sweep.plan import plan_sweep

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from checked_sets import make_set, scene, write_cases

SWEEP = """\
name: small
recipe: demo
data: rated
rows:
  - {label: baseline, method: supervised}
grid:
  seed: [0, 1]
fixed: {image.size: 32}
report: {rows: [label], values: [test/dsc, test/dsc/organ]}
"""


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def run(*words):
    """Output and exit code."""
    result = CliRunner().invoke(data, [str(word) for word in words], standalone_mode=False, catch_exceptions=False)
    return result.stdout, result.return_value or 0


def leaky(path, rng):
    image = scene(rng)
    parts = ("train", "train", "test", "test", "validation", "train")

    def fill(writer, rng):
        write_cases(writer, rng, count=6, images={0: image, 2: image}, split=lambda n: parts[n])

    return make_set(path, rng, fill).path


def test_check_ends_with_1_where_a_split_leaks(tmp_path, rng):
    said, code = run("check", leaky(tmp_path / "d", rng))
    assert code == 1
    assert said.startswith("STOP     the split leaks: 1 of 2 test images have a copy in another part\n")
    assert "set: 1 leak, " in said.splitlines()[-1]
    said, code = run("check", leaky(tmp_path / "e", rng), "--json")
    facts = json.loads(said)
    assert code == 1 and facts["leaks"] is True
    assert facts["findings"][0]["check"] == "split_copies" and facts["split"]["validation_fraction"] == 0.2


def test_the_command_itself_ends_with_1(tmp_path, rng):
    command = [sys.executable, "-m", "uscl.cli.main", "data", "check", leaky(tmp_path / "d", rng)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1


def test_check_ends_with_0_on_the_phantom(tmp_path):
    spec = PhantomSpec(patients=6, size=64, clips_per_patient=1, frames_per_clip=6, labels_per_patient=2)
    build_phantom(spec, tmp_path / "p")
    said, code = run("check", tmp_path / "p", "--seed", 2)
    assert code == 0 and "phantom: 0 leaks, " in said.splitlines()[-1]


def write_rated(path, rng, pictures=8):
    with DatasetWriter(path, name="rated", classes=("organ",), size=32) as writer:
        for number in range(pictures):
            for place, rater in enumerate(("ann", "bob")):
                masks = np.zeros((1, 32, 32), bool)
                masks[0, 4 : 12 + 8 * place, 4:20] = True
                options = {"rater": rater, "image_id": f"i{number}", "patient": f"p{number}"}
                image = np.random.default_rng(number).integers(9, 250, (32, 32), dtype=np.uint8)
                writer.add_case(image, masks, case=f"i{number}@{rater}", **options)
    return path


def test_agreement_prints_a_table_and_saves_unless_told_not_to(tmp_path, rng):
    path = write_rated(tmp_path / "d", rng)
    said, code = run("agreement", path, "--no-save")
    assert code == 0 and said.startswith("ann and bob: 8 images that both labelled\n")
    assert said.splitlines()[2].split() == ["DSC,", "both", "empty", "=", "1", "0.667", "0.667"]
    assert open_dataset(path).index.agreement == {}
    facts = json.loads(run("agreement", path, "--json", "--raters", "bob, ann")[0])
    assert facts["raters"] == ["bob", "ann"] and facts["images"]["dsc/organ"] == 8
    assert open_dataset(path).index.agreement["dsc"] == pytest.approx(2 / 3)


def test_the_report_of_a_sweep_shows_two_raters_from_the_next_start_on(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rated(tmp_path / "rated", rng)
    (tmp_path / "small.yaml").write_text(SWEEP)
    before = plan_sweep(load_sweep(tmp_path / "small.yaml"), store_root=tmp_path / "runs")
    store = StageStore(tmp_path / "runs")
    for planned in before.cells:
        for name, ref in planned.plan.stages.items():
            scores = {"test/dsc": 0.5, "test/dsc/organ": 0.5} if name == "evaluate/test" else {}
            store.publish(
                ref, attempt="a", files={}, outcome=Outcome.DONE, inputs={}, parent=None, flags=(), provenance={},
                metrics=scores,
            )  # fmt: skip

    def call(*words):
        return CliRunner().invoke(uscl, words, standalone_mode=False, catch_exceptions=False).output

    assert "nothing to do" in call("sweep", "small.yaml", "--no-mlflow")
    assert "two raters" not in call("report", "small")
    run("agreement", tmp_path / "rated")
    after = plan_sweep(load_sweep(tmp_path / "small.yaml"), store_root=tmp_path / "runs")
    assert [cell.plan.cell for cell in after.cells] == [cell.plan.cell for cell in before.cells]
    assert "nothing to do" in call("sweep", "small.yaml", "--no-mlflow")
    lines = [line.split() for line in call("report", "small").splitlines() if "two raters" in line]
    assert lines == [["two", "raters", "0.667"], ["two", "raters", "0.667"]]
