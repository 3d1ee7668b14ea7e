"""The timed probe: a few real steps in a temporary folder; the user's store stays as it was."""

import tempfile

import pytest

from uscl.spec.reader import load_sweep
from uscl.sweep.estimate import estimate
from uscl.sweep.history import History
from uscl.sweep.plan import plan_sweep
from uscl.sweep.preflight import Placement
from uscl.sweep.probe import time_stages
from uscl.sweep.study import study_of

ON_CPU = Placement("cpu", 0.0, 1.0, 2, False)
TEXT = """\
name: x
recipe: demo
data: phantom
fixed:
  image.size: 32
  encoder: {clips: 2, frames: 2}
  decoder: {clips: 2, frames: 2, level: 2}
  finetune: {batch: 2}
rows: [{label: pretrained}, {label: supervised, method: supervised}]
phantom: {patients: 12, clips_per_patient: 1, frames_per_clip: 14, labels_per_patient: 2, size: 32}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A tiny sweep whose phantom is not built; temporary folders lie where the test can see them."""
    (tmp_path / "x.yaml").write_text(TEXT)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return study_of([plan_sweep(load_sweep(tmp_path / "x.yaml"), store_root=tmp_path / "runs")])


def timed(study, notes, **options):
    def probe(needs):
        return time_stages(needs, device="cpu", cpus=1, amp=False, say=notes.append, **options)

    return estimate(study, lambda: History(()), probe, placement=ON_CPU, device="cpu")


def test_every_stage_of_a_chain_is_timed_by_real_steps_and_nothing_stays(study, tmp_path):
    notes = []
    cost = timed(study, notes)
    assert cost.unknown == 0 and cost.bases == {"probe": 8}
    assert [kind.kind for kind in cost.kinds] == ["encoder", "decoder", "finetune", "evaluate"]
    assert all(kind.seconds > 0 for kind in cost.kinds)
    assert cost.output_bytes > 8 * 1000 and cost.progress_bytes > 0
    assert notes == ["the phantom is not built yet: timed on 10 of its 12 patients, built for that"]
    assert not (tmp_path / "runs").exists() and not list((tmp_path / "scratch").glob("uscl-probe-*"))


def test_without_time_nothing_is_known_and_that_is_said(study, tmp_path):
    notes = []
    cost = timed(study, notes, budget_s=-1.0)
    assert cost.unknown == 8 and cost.seconds == 0
    assert notes and "takes too long" in notes[0]
    assert not list((tmp_path / "scratch").glob("uscl-probe-*"))


def test_a_stage_that_breaks_is_named_and_the_others_are_timed(study, monkeypatch):
    from uscl.sweep import probe

    def broken(context):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB\nand more")
        yield

    monkeypatch.setattr(probe, "STAGES", {**probe.STAGES, "decoder": broken})
    notes = []
    cost = timed(study, notes)
    assert "decoder cannot be timed: RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB" in notes
    known = {kind.kind: kind.unknown for kind in cost.kinds}
    assert known["encoder"] == 0 and known["decoder"] == 1
    assert cost.unknown < 8
