"""A dataset without clips, or without labels, is refused in words, whatever else is wrong with it."""

import sys
from pathlib import Path

import pytest

from uscl.errors import DataError, SpecError
from uscl.spec.reader import load_sweep
from uscl.sweep.plan import plan_sweep

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from clip_files import make_dataset


def plan_on(tmp_path, data, rows):
    (tmp_path / "x.yaml").write_text(f"name: x\nrecipe: demo\ndata: {data}\nrows: [{rows}]\n")
    return plan_sweep(load_sweep(tmp_path / "x.yaml", sets=["image.size=32"]), store_root=tmp_path / "store")


def test_labels_alone_serve_supervised_cells_only(tmp_path):
    data = make_dataset(tmp_path / "stills", size=32, clips=0, cases=9)
    said = "dataset 'stills' has no clips to pretrain on; merge one with clips (uscl data merge), or set method: "
    for row in ("{temporal.polarity: positive}", "{temporal.polarity: none}"):
        with pytest.raises(SpecError) as refused:
            plan_on(tmp_path, data, row)
        assert said + "supervised" in str(refused.value)
    assert len(plan_on(tmp_path, data, "{method: supervised}").cells) == 1


def test_clips_alone_serve_nothing(tmp_path):
    data = make_dataset(tmp_path / "clips", size=32, clips=9, cases=0)
    said = r"^dataset 'clips' has no labelled images to fine-tune on; merge one with labels \(uscl data merge\)$"
    for row in ("{temporal.polarity: positive}", "{method: supervised}"):
        with pytest.raises(DataError, match=said):
            plan_on(tmp_path, data, row)


@pytest.mark.parametrize(
    ("setting", "message"),
    [("rater: bob", "labels.rater: 'bob' is no rater"), ("quality: [Fair]", "labels.quality: 'Fair' is no quality")],
)
def test_an_unknown_rater_or_quality_is_refused_where_it_stands(tmp_path, setting, message):
    data = make_dataset(tmp_path / "set", size=32, clips=0, cases=9)
    kind = setting.partition(":")[0]
    with pytest.raises(SpecError) as refused:
        plan_on(tmp_path, data, f"{{method: supervised, labels.{setting}}}")
    assert str(refused.value).endswith(f"x.yaml:4: {message} of dataset 'set'; it names no {kind}")
