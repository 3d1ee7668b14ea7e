"""Settings that nothing reads, and classes that a report names and the dataset lacks."""

import pytest

from uscl.errors import SpecError
from uscl.spec.reader import load_sweep
from uscl.sweep.plan import plan_sweep

TEXT = """\
name: x
recipe: demo
data: phantom
rows:
  - {label: a, temporal.polarity: none}
  - {label: b, method: supervised}
grid: {seed: [0]}
report: {values: [test/dsc]}
"""


def plan_of(tmp_path, text=TEXT, sets=()):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return plan_sweep(load_sweep(path, sets=sets), store_root=tmp_path / "runs")


@pytest.mark.parametrize(
    ("given", "unread"),
    [
        ([], ()),
        (["speckle.model=rayleigh"], ("speckle.model",)),
        (["speckle.model=rayleigh", "speckle.weight=1"], ()),
        (["speckle.weight=1", "speckle.band_px=5"], ("speckle.band_px",)),
        (["pixel.scope=cross", "nnunet.base_width=16"], ("nnunet.base_width", "pixel.scope")),
        (["temporal.window=3"], ("temporal.window",)),
        (["finetune.budget=total"], ()),
        (["encoder.faithful_bugs=true"], ("encoder.faithful_bugs",)),
        (["seed=[0, 1]"], ()),
    ],
)
def test_a_setting_that_changes_no_cell_is_told(tmp_path, given, unread):
    assert plan_of(tmp_path, sets=given).unread == unread


def test_a_report_on_a_class_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        SpecError, match=r"report.values: 'test/dsc/nerve': 'nerve' is no class of dataset 'phantom'; it has"
    ):
        plan_of(tmp_path, TEXT.replace("test/dsc", "test/dsc/nerve"))
    values = "test/dsc/cortex, val/embedding/separability/cec, val/embedding/compactness"
    assert plan_of(tmp_path, TEXT.replace("test/dsc", values)).cells
