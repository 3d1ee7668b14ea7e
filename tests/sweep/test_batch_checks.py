"""Batches of Chaitanya's variants that a dataset cannot fill, and recipe paper's stages over the shipped sweep."""

from collections import Counter
from pathlib import Path

import pytest

from uscl.errors import SpecError
from uscl.spec.reader import load_sweep
from uscl.sweep.plan import plan_sweep

ROOT = Path(__file__).parents[2]


def plan_of(tmp_path, *sets):
    """The plan of one cell of recipe demo: 36 clips of 32 frames for pretraining."""
    (tmp_path / "x.yaml").write_text("name: x\nrecipe: demo\ndata: phantom\n")
    return plan_sweep(load_sweep(tmp_path / "x.yaml", sets=sets), store_root=tmp_path / "store")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            ["encoder.variant=GDminus", "encoder.parts=33"],
            "--set encoder.parts=33: 33 time bins, but clip p001-clip00 has 32 frames;"
            " set at most 32, or leave short clips out",
        ),
        (
            ["decoder.variant=LD", "decoder.parts=40"],
            "--set decoder.parts=40: 40 time bins, but clip p001-clip00 has 32 frames;"
            " set at most 32, or leave short clips out",
        ),
        (
            ["encoder.variant=GD", "encoder.clips=37"],
            "--set encoder.clips=37: 37 clips in a batch, but dataset 'phantom' has 36 for pretraining; set at most 36",
        ),
        (
            ["encoder.variant=GR", "encoder.clips=300"],
            "--set encoder.clips=300: clips x encoder.frames are 1200 different frames in a batch,"
            " but all clips together have 1152",
        ),
    ],
)
def test_a_batch_that_the_clips_cannot_fill_is_refused(tmp_path, sets, message):
    with pytest.raises(SpecError) as refused:
        plan_of(tmp_path, *sets)
    assert str(refused.value) == message


def test_what_a_variant_does_not_read_is_not_checked(tmp_path):
    """Frames from anywhere need not fit a clip each; under bins `frames` is not read; a clip variant reads no bins."""
    plan_of(tmp_path, "encoder.variant=GR", "encoder.clips=50", "decoder.variant=LR", "decoder.frames=40")
    plan_of(tmp_path, "encoder.variant=GD", "encoder.frames=40", "encoder.parts=32")
    plan_of(tmp_path, "encoder.parts=40", "decoder.parts=40")


def test_recipe_paper_keeps_the_5_encoders_and_10_decoders_of_table_2(tmp_path):
    """Its G^D- and L^R stand in every stage that is not temporal, pairwise rows included."""
    plan = plan_sweep(load_sweep(ROOT / "sweeps" / "temporal.yaml", recipe="paper"), store_root=tmp_path)
    stages = {stage.key: stage for planned in plan.cells for stage in planned.chain.stages}
    assert Counter(stage.kind for stage in stages.values()) == {
        "encoder": 5, "decoder": 10, "finetune": 30, "evaluate": 60,
    }  # fmt: skip
    for stage in stages.values():
        if stage.kind in ("encoder", "decoder"):
            timeless = stage.inputs.pairs.polarity == "none"
            section = stage.inputs.encoder if stage.kind == "encoder" else stage.inputs.decoder
            assert section.variant == ({"encoder": "GDminus", "decoder": "LR"}[stage.kind] if timeless else "clip")
