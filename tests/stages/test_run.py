"""Whole chains on a tiny dataset: sharing, resuming, rebuilding, diverging, and what a manifest says."""

import pytest

from uscl.data.dataset import open_dataset
from uscl.errors import TrialError
from uscl.records import CellFinished, Drained, Outcome, StagePublished, StageRef, StageReused
from uscl.stages import run
from uscl.stages.keys import chain
from uscl.stages.run import cell_result, missing_stages, run_trial
from uscl.store.stages import StageStore


def events_of(spec, store, dataset, **changes):
    settings = {"device": "cpu", "attempt": "one", "stop_requested": lambda: False} | changes
    return list(run_trial(spec, store, dataset=dataset, **settings))


def published(events):
    return [event.kind for event in events if isinstance(event, StagePublished)]


@pytest.fixture(scope="module")
def paired(trial):
    return trial(temporal__polarity="positive_negative", temporal__window=2, speckle={"weight": 0.1, "min_pixels": 8})


@pytest.fixture(scope="module")
def alone(paired, tiny_dataset, tmp_path_factory):
    """Store and events of the cell trained by itself."""
    store = StageStore(tmp_path_factory.mktemp("alone"))
    return store, events_of(paired, store, tiny_dataset)


def test_a_trial_trains_every_stage_once(alone):
    _, events = alone
    assert published(events) == ["encoder", "decoder", "finetune", "evaluate", "evaluate"]
    assert isinstance(events[-1], CellFinished)
    metrics = events[-1].result.metrics
    assert {"val/dsc", "test/dsc/inner", "test/delta_snr", "test/dsc_floor", "val/hd95/outer"} <= set(metrics)


def test_the_same_cell_again_trains_nothing(alone, paired, tiny_dataset):
    store, before = alone
    events = events_of(paired, store, tiny_dataset, attempt="two")
    assert [type(event) for event in events] == [StageReused] * 5 + [CellFinished]
    assert events[-1].result.metrics == before[-1].result.metrics


def test_shared_stages_give_the_bits_of_a_single_trial(alone, paired, trial, tiny_dataset, tmp_path):
    """Another cell trains the encoder and decoder first; the cell on top of them ends with the same weights."""
    store = StageStore(tmp_path)
    other = paired.model_copy(update={"speckle": trial().speckle})
    events_of(other, store, tiny_dataset)
    events = events_of(paired, store, tiny_dataset)
    assert published(events) == ["finetune", "evaluate", "evaluate"]
    assert events[-1].result.metrics == alone[1][-1].result.metrics
    cell = StageRef("finetune", events[-1].result.cell)
    assert store.read(cell, "weights.safetensors") == alone[0].read(cell, "weights.safetensors")


@pytest.mark.parametrize("checks", [1, 2, 3])
def test_a_drained_trial_goes_on_to_the_same_bits(alone, paired, tiny_dataset, tmp_path, monkeypatch, checks):
    monkeypatch.setattr("uscl.stages.loop.STOP_CHECK_S", 0.0)
    store, asked = StageStore(tmp_path), iter(range(1, 1000))
    events = events_of(paired, store, tiny_dataset, stop_requested=lambda: next(asked) == 4 * checks)
    assert isinstance(events[-1], Drained)
    events = events_of(paired, store, tiny_dataset, attempt="two")
    assert events[-1].result.metrics == alone[1][-1].result.metrics


def test_a_finished_cell_needs_no_pretraining_any_more(alone, paired, tiny_dataset, tmp_path):
    """What is missing is found from the end of the chain backwards."""
    store, _ = alone
    links = chain(paired, open_dataset(tiny_dataset).index)
    copy = StageStore(tmp_path)
    for stage in links.stages[2:3]:
        manifest = store.manifest(stage.ref)
        files = {name: store.read(stage.ref, name) for name in manifest.files}
        copy.publish(
            stage.ref, attempt="copied", files=files, outcome=manifest.outcome, inputs=manifest.inputs,
            parent=manifest.parent, metrics=manifest.metrics, flags=(), provenance={},
        )  # fmt: skip
    assert [stage.name for stage in missing_stages(links, copy)] == ["evaluate/val", "evaluate/test"]
    assert cell_result(links, copy) is None
    assert published(events_of(paired, copy, tiny_dataset)) == ["evaluate", "evaluate"]


def test_a_torn_parent_is_rebuilt_to_the_same_bits(alone, paired, tiny_dataset, tmp_path, trial, caplog):
    store = StageStore(tmp_path)
    other = paired.model_copy(update={"speckle": trial().speckle})
    events_of(other, store, tiny_dataset)
    links = chain(paired, open_dataset(tiny_dataset).index)
    weights = store.folder(links.stage("decoder").ref) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    events = events_of(paired, store, tiny_dataset, attempt="two")
    assert "decoder" in published(events) and "encoder" not in published(events)
    assert events[-1].result.metrics == alone[1][-1].result.metrics
    assert "rebuilding" in caplog.text


def test_a_diverged_stage_finishes_the_cell(trial, tiny_dataset, tmp_path, monkeypatch):
    """A learning rate of 1e20 gives non-finite numbers within a step or two: a result, published without weights."""
    spec, store = trial(encoder={"steps": 12, "lr": 1e30, "clips": 3, "frames": 4}), StageStore(tmp_path)
    events = events_of(spec, store, tiny_dataset)
    assert published(events) == ["encoder"]
    assert events[-1].result.outcome is Outcome.DIVERGED
    manifest = store.manifest(chain(spec, open_dataset(tiny_dataset).index).stage("encoder").ref)
    assert set(manifest.files) == {"metrics.parquet"}
    again = events_of(spec, store, tiny_dataset, attempt="two")
    assert published(again) == [] and again[-1].result.outcome is Outcome.DIVERGED


def test_a_stage_only_the_driver_sees_is_not_rebuilt(trial, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "VISIBLE_WITHIN_S", 0.3)
    key = chain(trial(), open_dataset(tiny_dataset).index).stage("encoder").key
    with pytest.raises(TrialError, match=r"^store not shared: the driver sees stage encoder/"):
        events_of(trial(), StageStore(tmp_path), tiny_dataset, present=frozenset({key}))
    assert StageStore(tmp_path).refs("encoder") == []


def test_a_manifest_names_its_exact_parent_and_where_it_ran(alone, paired, tiny_dataset):
    store, _ = alone
    links = chain(paired, open_dataset(tiny_dataset).index)
    encoder, decoder = (store.manifest(links.stage(name).ref) for name in ("encoder", "decoder"))
    assert decoder.parent.sha256 == encoder.files["weights.safetensors"]
    assert {"seconds", "frames_per_s", "device", "torch", "uscl", "host"} <= set(decoder.provenance)
    assert "encoder/loss_over_chance" in encoder.metrics and "decoder/position_retrieval" in decoder.metrics


def test_the_decoder_stage_leaves_the_encoders_parameters_alone(alone, paired, tiny_dataset):
    """science.md 11, oracle 11; batch-norm statistics may move."""
    from safetensors.torch import load

    store, _ = alone
    links = chain(paired, open_dataset(tiny_dataset).index)
    before, after = (load(store.read(links.stage(name).ref, "weights.safetensors")) for name in ("encoder", "decoder"))
    parameters = [name for name in before if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert parameters and all(before[name].equal(after[name]) for name in parameters)
    assert {name.split(".")[0] for name in after} == {"encoder", "decoder"}
    assert not any(name.startswith("decoder.blocks.2") for name in after)  # level 2 trains blocks 0 and 1


@pytest.mark.parametrize(("carried", "moved"), [(True, False), (False, True)])
def test_only_what_pretraining_gives_is_carried(alone, paired, tiny_dataset, carried, moved):
    """science.md 11, oracle 11: the tail is fresh; batch-norm statistics come along only when asked."""
    from safetensors.torch import load

    from uscl.stages.finetune import build_network

    store, _ = alone
    links = chain(paired, open_dataset(tiny_dataset).index)
    weights = load(store.read(links.stage("decoder").ref, "weights.safetensors"))
    inputs = links.stage("finetune").inputs
    settings = inputs.finetune.model_copy(update={"transfer_bn_stats": carried})
    state = build_network(inputs.model_copy(update={"finetune": settings}), weights).state_dict()
    different = {name for name in weights if not state[name].equal(weights[name])}
    assert bool(different) is moved
    assert all(name.rsplit(".", 1)[-1] in ("running_mean", "running_var", "num_batches_tracked") for name in different)
