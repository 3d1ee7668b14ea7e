"""Estimates by hand-made manifests: what counts as alike, how it scales, what decides the end."""

import pytest

from uscl.records import Outcome
from uscl.spec.reader import load_sweep
from uscl.stages.canonical import canonical
from uscl.store.files import Files
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder
from uscl.sweep import rehearsal
from uscl.sweep.estimate import Estimate, estimate
from uscl.sweep.history import Cost, History, history_of
from uscl.sweep.outlook import cell_store
from uscl.sweep.plan import plan_sweep
from uscl.sweep.preflight import Placement
from uscl.sweep.rehearsal import rehearse
from uscl.sweep.runner import RunOptions
from uscl.sweep.study import study_of
from uscl.sweep.workload import workload

ON_CPU = Placement("cpu", 0.0, 1.0, 2, False)
KINDS = ("encoder", "decoder", "finetune", "evaluate")
SECONDS = {"encoder": 100.0, "decoder": 50.0, "finetune": 20.0, "evaluate": 1.0}


def plan_of(tmp_path, grid="{labels.fraction: [0.5, 1.0]}", *, name="x", sets=(), share=True):
    (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nrecipe: demo\ndata: phantom\ngrid: {grid}\n")
    spec = load_sweep(tmp_path / f"{name}.yaml", sets=sets)
    return plan_sweep(spec, store_root=tmp_path / "runs", share=share)


def publish(plan, *, device="cpu", outcome=Outcome.DONE, seconds=SECONDS, speed=0.0, num_bytes=1000):
    """Every stage of a plan, as if trained."""
    for planned in plan.cells:
        for stage in planned.chain.stages:
            cell_store(plan.store_root, planned.plan).publish(
                stage.ref, attempt="a", files={"weights.safetensors": b"w" * num_bytes}, outcome=outcome,
                inputs=canonical(stage.inputs), parent=None, metrics={}, flags=(),
                provenance={"seconds": seconds[stage.kind], "device": device, "frames_per_s": speed,
                            "num_cases": len(stage.data.cases)},
            )  # fmt: skip


def no_probe(needs):
    raise AssertionError("nothing is to be timed")


def found(plan, *, device="cpu", probe=no_probe, placement=ON_CPU):
    history = lambda: history_of([StageStore(plan.store_root)], KINDS)  # noqa: E731
    return estimate(study_of([plan]), history, probe, placement=placement, device=device)


def kind(estimate, name):
    return next(count for count in estimate.kinds if count.kind == name)


def test_new_cells_take_what_the_same_stages_took(tmp_path):
    publish(plan_of(tmp_path))
    longer = found(plan_of(tmp_path, "{labels.fraction: [0.5, 1.0], seed: [0, 1]}"))
    assert (longer.finished, longer.failed, longer.new) == (2, 0, 2)
    assert [(c.kind, c.cached, c.new) for c in longer.kinds] == [
        ("encoder", 1, 1), ("decoder", 1, 1), ("finetune", 2, 2), ("evaluate", 4, 4)
    ]  # fmt: skip
    assert longer.seconds == pytest.approx(100 + 50 + 2 * 20 + 4 * 1)
    assert longer.chain_seconds == pytest.approx(100 + 50 + 20 + 2)
    assert longer.bases == {"history": 8} and longer.unknown == 0
    assert longer.output_bytes == 8 * 1000
    assert longer.progress_bytes == 3 * 4 * 1000 * 2  # three points of four times the weights, of two trials


def test_the_longest_chain_decides_where_there_are_workers_enough(tmp_path):
    publish(plan_of(tmp_path))
    cost = found(plan_of(tmp_path, "{labels.fraction: [0.5, 1.0], seed: [0, 1]}"))
    assert cost.wall_seconds(1) == pytest.approx(194) and not cost.bound_by_chain(1)
    assert cost.wall_seconds(8) == pytest.approx(172) and cost.bound_by_chain(8)


def test_seconds_follow_the_steps(tmp_path):
    publish(plan_of(tmp_path))
    cost = found(plan_of(tmp_path, sets=["finetune.steps=500"]))
    assert kind(cost, "finetune").seconds == pytest.approx(2 * 2 * 20)
    assert cost.bases == {"history": 2 + 4}


def test_another_image_size_is_taken_in_proportion_to_its_pixels(tmp_path):
    publish(plan_of(tmp_path))
    cost = found(plan_of(tmp_path, sets=["image.size=32"]))
    assert kind(cost, "encoder").seconds == pytest.approx(100 / 4)
    assert set(cost.bases) == {"similar"}


def test_a_window_or_a_temperature_takes_no_time_of_its_own_and_a_network_does(tmp_path):
    publish(plan_of(tmp_path))
    sets = ["temporal.polarity=positive", "temporal.window=3", "contrast.temperature=0.2"]
    assert found(plan_of(tmp_path, sets=sets)).bases == {"history": 8}
    asked = []
    cost = found(
        plan_of(tmp_path, sets=["network.activation=leaky_relu"]), probe=lambda needs: asked.extend(needs) or {}
    )
    assert len(asked) == 8 and cost.unknown == 8 and cost.seconds == 0


def test_the_same_device_counts_and_another_only_where_nothing_can_be_timed(tmp_path):
    publish(plan_of(tmp_path), device="NVIDIA H100")
    other = plan_of(tmp_path, "{labels.fraction: [0.25]}")
    shapes = []

    def probe(needs):
        shapes.extend(need.work.shape for need in needs)
        return {need.work.shape: Cost(0.5, 10.0, "probe") for need in needs if need.stage.kind == "finetune"}

    cost = found(other, probe=probe)
    assert cost.bases == {"probe": 1, "other device": 2} and len(shapes) == 3
    assert kind(cost, "finetune").seconds == pytest.approx(0.5 * 250)
    assert found(other, device="NVIDIA H100").bases == {"history": 3}


def test_diverged_stages_and_those_of_unknown_inputs_teach_nothing(tmp_path):
    plan = plan_of(tmp_path)
    publish(plan, outcome=Outcome.DIVERGED)
    assert history_of([StageStore(plan.store_root)], KINDS)._spent == ()
    assert workload("encoder", {}, num_cases=0) is None
    assert workload("evaluate", {}, num_cases=0) is None


def test_a_resumed_stage_is_judged_by_its_speed(tmp_path):
    """Its seconds are those of its last part: 2 s here, where 250 steps of 8 frames at 20 frames/s are 100 s."""
    publish(plan_of(tmp_path), seconds=SECONDS | {"finetune": 2.0}, speed=20.0)
    cost = found(plan_of(tmp_path, "{labels.fraction: [0.25]}"))
    assert kind(cost, "finetune").seconds == pytest.approx(100.0)


def test_failed_cells_are_those_whose_last_attempt_failed(tmp_path):
    plan = plan_of(tmp_path, "{labels.fraction: [0.25, 0.5, 1.0]}")
    folder = SweepFolder(plan.store_root, "x")
    one, other, third = (planned.plan.cell for planned in plan.cells)
    for cell, event in ((one, "Failed"), (other, "Failed"), (other, "Drained"), (third, "StagePublished")):
        folder.append_event({"cell": cell, "event": event})
    cost = found(plan, probe=lambda needs: {})
    assert (cost.finished, cost.failed, cost.new) == (0, 1, 2)
    assert (kind(cost, "encoder").failed, kind(cost, "encoder").new, kind(cost, "finetune").new) == (1, 0, 3)


def test_cells_of_two_sweeps_count_once(tmp_path):
    one = plan_of(tmp_path)
    other = plan_of(tmp_path, "{labels.fraction: [0.25, 1.0]}", name="y")
    both = estimate(study_of([one, other]), lambda: History(()), lambda needs: {}, placement=ON_CPU, device="cpu")
    assert both.new == 3 and kind(both, "encoder").distinct == 1 and kind(both, "finetune").distinct == 3


def test_nothing_is_looked_up_where_all_is_finished(tmp_path):
    plan = plan_of(tmp_path)
    publish(plan)
    done = estimate(study_of([plan]), no_history, no_probe, placement=ON_CPU, device="cpu")
    assert isinstance(done, Estimate) and done.finished == 2 and done.seconds == 0 and done.disk_bytes == 0


def no_history():
    raise AssertionError("no manifest is to be read")


# ---- whether it can fit


@pytest.fixture
def untimed(monkeypatch):
    monkeypatch.setattr("uscl.sweep.probe.time_stages", lambda *_, **__: {})


def test_a_disk_that_is_too_small_is_refused(tmp_path, monkeypatch, untimed):
    publish(plan_of(tmp_path))
    longer = study_of([plan_of(tmp_path, "{labels.fraction: [0.25]}")])
    assert rehearse(longer, RunOptions(), gpus=lambda: 0).refusals == ()
    monkeypatch.setattr(Files, "free_bytes", lambda self: 1000)
    tight = rehearse(longer, RunOptions(), gpus=lambda: 0)
    assert tight.refusals == ("the disk is too small",)
    frames = 20 * (3 * 32 + 8)
    assert tight.disk_bytes > tight.dataset_bytes == frames * 64 * 64


def test_a_missing_gpu_is_refused_where_one_is_insisted_upon(tmp_path, untimed):
    study = study_of([plan_of(tmp_path)])
    insisted = rehearse(study, RunOptions(require_gpu=True), gpus=lambda: 0)
    assert insisted.refusals == (
        "--require-gpu: there is none here; run where nvidia-smi shows a GPU, or drop the option",
    )
    assert insisted.placement.device == "cpu" and insisted.placement.fallback
    assert rehearse(study, RunOptions(), gpus=lambda: 0).refusals == ()


def test_hours_are_of_the_share_of_a_gpu_that_a_trial_has(tmp_path, untimed):
    cost = Estimate(0, 0, 1, (), 7200.0, 7200.0, 0)
    half = rehearsal.Rehearsal(cost, Placement("cuda", 0.5, 1.0, 2, False), "NVIDIA H100", None, 0, (), ())
    cores = rehearsal.Rehearsal(cost, Placement("cpu", 0.0, 4.0, 2, False), "cpu", None, 0, (), ())
    assert half.device_hours == 1.0 and cores.device_hours == 8.0


def test_a_cluster_is_not_asked_and_that_is_said(tmp_path, untimed):
    asked = rehearse(study_of([plan_of(tmp_path)]), RunOptions(address="auto", workers=7), gpus=lambda: 0)
    assert asked.placement.workers == 7
    assert "the cluster at auto is not asked: times are of this machine, with 7 workers" in asked.notes
