"""Plans of real sweep files over the phantom's index: nothing is built, nothing trained."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from uscl import recipes
from uscl.data.phantom import phantom_index
from uscl.errors import DataError, SpecError
from uscl.records import CellPlan, Outcome
from uscl.spec.reader import load_sweep
from uscl.sweep.outlook import cell_store, outlook, queue_cells, survey, to_do
from uscl.sweep.plan import plan_sweep
from uscl.sweep.sharing import sharing

ROOT = Path(__file__).parents[2]
RECIPE = Path(recipes.__file__).with_name("demo.yaml")


def plan_of(tmp_path, text="", *, sets=(), **options):
    """The plan of a small file; `text` replaces its rows and grid."""
    body = text or "grid: {labels.fraction: [0.5, 1.0]}\n"
    (tmp_path / "x.yaml").write_text(f"name: x\nrecipe: demo\ndata: phantom\n{body}")
    return plan_sweep(load_sweep(tmp_path / "x.yaml", sets=sets), store_root=tmp_path / "store", **options)


def publish(plan, planned, name, outcome=Outcome.DONE, seconds=2.0):
    """An empty output of one stage of one cell."""
    cell_store(plan.store_root, planned.plan).publish(
        planned.plan.stages[name], attempt="a", files={}, outcome=outcome, inputs={}, parent=None, metrics={},
        flags=(), provenance={"seconds": seconds},
    )  # fmt: skip


def test_the_shipped_temporal_sweep_is_30_cells_over_5_encoders_and_10_decoders(tmp_path):
    plan = plan_sweep(load_sweep(ROOT / "sweeps" / "temporal.yaml"), store_root=tmp_path)
    assert [planned.plan.number for planned in plan.cells] == list(range(1, 31)) and not plan.duplicates
    distinct = {ref for planned in plan.cells for ref in planned.plan.stages.values()}
    assert Counter(ref.kind for ref in distinct) == {"encoder": 5, "decoder": 10, "finetune": 30, "evaluate": 60}
    assert plan.dataset_path == tmp_path / "data" / f"phantom-{plan.dataset_fingerprint[:10]}"
    assert not plan.dataset_path.exists()
    assert plan.cell(plan.cells[3].plan.cell) is plan.cells[3]


def test_a_plan_knows_how_many_labelled_cases_each_cell_reads_and_which_dataset(tmp_path):
    plan = plan_of(tmp_path, sets=("labels.fraction=[0.5, 1.0]",))
    assert [planned.plan.cases for planned in plan.cells] == [
        {"finetune": 48, "evaluate/val": 32, "evaluate/test": 32},
        {"finetune": 96, "evaluate/val": 32, "evaluate/test": 32},
    ]
    assert (plan.facts.name, plan.facts.unit) == ("phantom", "patient")
    assert CellPlan.from_json(plan.cells[0].plan.to_json()) == plan.cells[0].plan


def test_cells_that_are_one_experiment_are_named_and_run_once(tmp_path):
    rows = "rows: [{finetune.lr: 1e-3}, {finetune.lr: 0.001}, {temporal.polarity: none, temporal.window: 9}]\n"
    plan = plan_of(tmp_path, f"fixed: {{finetune.lr: 0.001}}\n{rows}")
    assert [planned.plan.number for planned in plan.cells] == [1]
    assert [(twin.number, twin.same_as) for twin in plan.duplicates] == [(2, 1), (3, 1)]


def test_one_network_scored_in_two_ways_is_refused(tmp_path):
    with pytest.raises(
        SpecError, match=r"cells 1 and 2 are one fine-tuned network scored in two ways \(evaluate\.\*\)"
    ):
        plan_of(tmp_path, "grid: {evaluate.tta: [none, flip]}\n")


def test_a_window_longer_than_every_clip_is_refused_with_file_and_line(tmp_path):
    with pytest.raises(SpecError) as refused:
        plan_of(tmp_path, "rows:\n  - {temporal.polarity: positive, temporal.window: 32}\n")
    assert str(refused.value) == (
        f"{tmp_path}/x.yaml:5: temporal.window: 32 frames is longer than every clip; the longest spans 31 frames"
    )
    plan_of(tmp_path, "rows: [{temporal.polarity: positive, temporal.window: 31}]\n")
    plan_of(tmp_path, "rows: [{temporal.polarity: none, temporal.window: 99}]\n")


def test_windows_in_milliseconds_and_fractions(tmp_path):
    row = "rows: [{{temporal.polarity: positive, temporal.unit: {}, temporal.window: {}}}]\n"
    plan_of(tmp_path, row.format("ms", 1000))
    with pytest.raises(SpecError, match="2000 ms is longer than every clip; the longest spans 1240 ms"):
        plan_of(tmp_path, row.format("ms", 2000))
    with pytest.raises(SpecError, match=r"0\.98 fraction is longer than every clip; the longest spans 0\.96875"):
        plan_of(tmp_path, row.format("fraction", 0.98))
    plan_of(tmp_path, row.format("ms", 40))
    with pytest.raises(SpecError, match=r"39 ms holds no other frame; frames of a clip are 40 ms apart or more"):
        plan_of(tmp_path, row.format("ms", 39))
    plan_of(tmp_path, row.format("fraction", 0.03125))
    with pytest.raises(SpecError, match=r"0\.03 fraction holds no other frame; frames of a clip are 0\.03125"):
        plan_of(tmp_path, row.format("fraction", 0.03))


def test_an_image_larger_than_the_datasets_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"--set image\.size=128: 128 is larger than the 64 px frames of dataset"):
        plan_of(tmp_path, sets=["image.size=128"])


@pytest.mark.parametrize("stage", ["encoder", "decoder"])
def test_batches_beyond_the_data_are_refused_at_their_setting(tmp_path, stage):
    with pytest.raises(SpecError) as refused:
        plan_of(tmp_path, sets=[f"{stage}.clips=37"])
    assert str(refused.value) == (
        f"--set {stage}.clips=37: 37 clips in a batch, but dataset 'phantom' has 36 for pretraining; set at most 36"
    )
    with pytest.raises(SpecError) as refused:
        plan_of(tmp_path, f"fixed: {{{stage}.frames: 33}}\n")
    assert str(refused.value) == (
        f"{tmp_path}/x.yaml:4: {stage}.frames: 33 frames of a clip in a batch, but the longest clip has 32;"
        " set at most 32"
    )
    plan_of(tmp_path, sets=[f"{stage}.clips=36", f"{stage}.frames=32"])
    plan_of(tmp_path, sets=[f"{stage}.clips=37", f"{stage}.frames=33", "method=supervised"])


def test_what_the_data_refuses_is_told_at_its_setting(tmp_path):
    def refusal(text="", *sets):
        with pytest.raises(SpecError) as refused:
            plan_of(tmp_path, text, sets=sets)
        return str(refused.value)

    assert refusal("fixed: {speckle.classes: [liver]}\n").startswith(
        f"{tmp_path}/x.yaml:4: speckle.classes: 'liver' is no class of dataset 'phantom'; it has capsule, "
    )
    assert refusal("phantom:\n  patients: 1\n").startswith(
        f"{tmp_path}/x.yaml:5: phantom.patients: dataset phantom: 1 patients or groups with labelled cases; "
    )
    assert refusal("", "image.size=128").startswith("--set image.size=128: 128 is larger than the 64 px frames")
    far = ["temporal.polarity=negative", "temporal.window=20", "temporal.guard=20"]
    assert refusal("", *far).startswith(
        "--set temporal.window=20: no clip has a frame beyond window 20 and guard 20 to be a negative; the longest"
    )
    plan_of(tmp_path, sets=[*far, "temporal.negatives=cross"])


def test_exclusive_classes_that_overlap_are_told_at_the_heads(tmp_path, monkeypatch):
    def index_of(spec):
        return replace(phantom_index(spec), contains={"capsule": ("cec",), "medulla": ("cec",)})

    monkeypatch.setattr("uscl.data.phantom.phantom_index", index_of)
    plan_of(tmp_path)
    with pytest.raises(SpecError) as refused:
        plan_of(tmp_path, "fixed: {network.heads: softmax}\n")
    assert str(refused.value) == (
        f"{tmp_path}/x.yaml:4: network.heads: softmax takes nested or separate classes, but 'cec' lies within "
        "'capsule' and within 'medulla', which only overlap; use sigmoid"
    )
    plan_of(tmp_path, "fixed: {network.heads: softmax, method: nnunet2d}\n")  # which has heads of its own


def test_a_class_without_labels_is_told_at_the_fraction_or_at_the_dataset(tmp_path, monkeypatch):
    def plan_with(*, owners):
        """cec alone in the first case of each of so many patients, all else in the other cases."""

        def index_of(spec):
            index = phantom_index(spec)
            kept = {case.patient: case.case for case in reversed(index.cases)}
            kept = set(sorted(kept.values())[:owners])
            rest, cec = frozenset(index.classes) - {"cec"}, frozenset({"cec"})
            cases = [replace(case, classes=cec if case.case in kept else rest) for case in index.cases]
            return replace(index, cases=tuple(cases))

        monkeypatch.setattr("uscl.data.phantom.phantom_index", index_of)
        with pytest.raises(SpecError) as refused:
            plan_of(tmp_path, "fixed:\n  speckle.weight: 0\ngrid:\n  labels.fraction: [1.0, 0.005]\n")
        return str(refused.value)

    rare = plan_with(owners=20)
    assert rare.startswith(f"{tmp_path}/x.yaml:7: labels.fraction: dataset phantom: labels.fraction 0.005 keeps "), rare
    never = plan_with(owners=0)
    assert never.startswith(f"{RECIPE}:")
    assert ": phantom.patients: dataset phantom: labels.fraction 1: class 'cec' occurs in none of the " in never


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    plan_of(tmp_path)
    spec = load_sweep(tmp_path / "x.yaml", data=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere"):
        plan_sweep(spec, store_root=tmp_path / "store")


def test_outlook_searches_from_the_end_of_the_chain(tmp_path):
    plan = plan_of(tmp_path)
    first, second = plan.cells
    assert [cell.missing for cell in to_do(plan)] == [tuple(first.plan.stages)] * 2
    publish(plan, first, "finetune")
    found = survey(plan.cells, plan.store_root)
    assert outlook(first.plan, found).missing == ("evaluate/val", "evaluate/test")
    assert outlook(second.plan, found).missing == tuple(second.plan.stages)
    publish(plan, first, "evaluate/val")
    publish(plan, first, "evaluate/test")
    assert [cell.finished for cell in to_do(plan)] == [True, False]


def test_a_diverged_encoder_finishes_every_cell_above_it(tmp_path):
    plan = plan_of(tmp_path)
    publish(plan, plan.cells[0], "encoder", Outcome.DIVERGED)
    assert [cell.finished for cell in to_do(plan)] == [True, True]


def test_unshared_cells_have_stages_of_their_own(tmp_path):
    plan = plan_of(tmp_path, share=False)
    publish(plan, plan.cells[0], "encoder")
    assert ["encoder" in cell.missing for cell in to_do(plan)] == [False, True]
    assert sharing(plan).saved_runs == 0


def test_sharing_counts_runs_and_seconds_that_were_not_needed(tmp_path):
    plan = plan_of(tmp_path)
    first, second = plan.cells
    for name in first.plan.stages:
        publish(plan, first, name, seconds=7.0)
    assert (sharing(plan).saved_runs, sharing(plan).saved_seconds) == (0, 0.0), "one finished cell shares with nobody"
    for name in ("finetune", "evaluate/val", "evaluate/test"):
        publish(plan, second, name)
    saved = sharing(plan)
    assert (saved.saved_runs, saved.saved_seconds) == (2, 14.0)
    assert saved.distinct == {"encoder": 1, "decoder": 1, "finetune": 2, "evaluate": 4}


def test_seed_blocks_are_numbered_as_they_occur(tmp_path):
    plan = plan_of(tmp_path, "grid: {labels.fraction: [0.5, 1.0], seed: [4, 2]}\n")
    assert [cell.block for cell in queue_cells(plan.cells)] == [0, 1, 0, 1]


def test_planning_imports_neither_torch_nor_ray_nor_mlflow(tmp_path):
    code = (
        "import sys; from pathlib import Path; from uscl.spec.reader import load_sweep;"
        "from uscl.sweep.plan import plan_sweep; from uscl.sweep import runner;"
        "from uscl.sweep.study import study_of;"
        f"spec = load_sweep(Path({str(ROOT / 'sweeps' / 'temporal.yaml')!r}));"
        f"plan = plan_sweep(spec, store_root={str(tmp_path)!r});"
        "assert len(runner.unfinished(study_of([plan]))) == 30;"
        "print([name for name in ('torch', 'ray', 'mlflow', 'optuna') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_pixel_contrast_is_planned_with_and_without_an_encoder(tmp_path):
    rows = (
        "rows: [{pixel.start: random}, {pixel.start: encoder, temporal.polarity: positive, temporal.stage: encoder}]\n"
    )
    fixed = "fixed: {method: pixel_supcon, decoder.clips: 9999, decoder.level: 7}\n"  # the decoder stage is not there
    plan = plan_of(tmp_path, rows + fixed)
    names = [list(planned.plan.stages) for planned in plan.cells]
    assert names == [["decoder", "finetune", "evaluate/val", "evaluate/test"], ["encoder", *names[0]]]
    plan_of(tmp_path, "fixed: {method: pixel_supcon, encoder.clips: 9999}\n")  # no clip is read
    with pytest.raises(SpecError, match=r"encoder\.clips: 9999 clips in a batch"):
        plan_of(tmp_path, "fixed: {method: pixel_supcon, pixel.start: encoder, encoder.clips: 9999}\n")


def test_one_class_has_nothing_to_be_contrasted_with(tmp_path, monkeypatch):
    index = phantom_index(load_sweep(ROOT / "sweeps" / "temporal.yaml").phantom)
    one = replace(index, classes=index.classes[:1], contains={})
    monkeypatch.setattr("uscl.data.phantom.phantom_index", lambda spec: one)
    with pytest.raises(SpecError) as refused:
        plan_of(tmp_path, "fixed: {method: pixel_supcon, pixel.background: false}\n")
    assert str(refused.value) == (
        f"{tmp_path}/x.yaml:4: pixel.background: false leaves one class, and dataset '{one.name}' has no other to "
        "contrast it with; set true"
    )
