"""Content keys: what shares, what must not, and what no key may depend on."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uscl.errors import DataError, SpecError
from uscl.spec.methods import is_moot
from uscl.spec.section import Section
from uscl.spec.trial import TrialSpec
from uscl.stages.canonical import canonical
from uscl.stages.keys import STAGE_VERSION, DataSlice, chain, data_hash, stage_key

ROWS = [
    {"contrast__loss": "infonce", "temporal__polarity": "none"},
    *(
        {"contrast__loss": loss, "temporal__polarity": polarity, "temporal__stage": stage}
        for (loss, polarity), stage in itertools.product(
            [("infonce", "positive"), ("pairwise", "positive"), ("pairwise", "positive_negative")],
            ["encoder", "decoder", "both"],
        )
    ),
]


def keys_of(spec, index):
    return {stage.name: stage.key for stage in chain(spec, index).stages}


def test_experiment_2_has_5_encoders_10_decoders_and_30_cells(trial, tiny_index):
    chains = [
        chain(trial(**row, labels__fraction=fraction), tiny_index)
        for row, fraction in itertools.product(ROWS, [0.25, 0.5, 1.0])
    ]
    keys = {name: {each.stage(name).key for each in chains} for name in ("encoder", "decoder", "finetune")}
    assert {name: len(found) for name, found in keys.items()} == {"encoder": 5, "decoder": 10, "finetune": 30}


def test_the_cell_is_the_key_of_its_finetune_stage(trial, tiny_index):
    links = chain(trial(), tiny_index)
    assert [stage.name for stage in links.stages] == ["encoder", "decoder", "finetune", "evaluate/val", "evaluate/test"]
    assert links.cell == links.stage("finetune").key
    assert [stage.parent and stage.parent.kind for stage in links.stages] == [
        None, "encoder", "decoder", "finetune", "finetune",
    ]  # fmt: skip


def test_a_supervised_trial_starts_at_finetune(trial, tiny_index):
    links = chain(trial(method="supervised"), tiny_index)
    assert [stage.name for stage in links.stages] == ["finetune", "evaluate/val", "evaluate/test"]
    assert links.stages[0].parent is None


@pytest.mark.parametrize(
    "moot",
    [
        {"temporal__window": 9},
        {"temporal__guard": 3},
        {"contrast__margin": 0.5},
        {"speckle__form": "log"},
        {"labels__draw": 7},
        {"temporal__density": "decreasing"},
        {"temporal__soft": True},
        {"temporal__hard_beta": 1.0},
        {"temporal__curriculum": "steps"},
    ],
)
def test_a_moot_setting_is_in_no_key(trial, tiny_index, moot):
    """Polarity none reads no window, infonce no margin, weight 0 no form, fraction 1 no draw."""
    assert keys_of(trial(**moot), tiny_index) == keys_of(trial(), tiny_index)


@pytest.mark.parametrize(
    ("settings", "same", "stages"),
    [
        *(
            ({"temporal__polarity": polarity}, {"temporal__negatives": "intra"}, {"decoder"})
            for polarity in ("negative", "positive_negative")
        ),
        (
            {"temporal__polarity": "positive"},
            {"temporal__polarity": "positive_negative", "temporal__negatives": "cross"},
            {"encoder", "decoder"},
        ),
        ({}, {"contrast__form": "simclr"}, {"decoder"}),
    ],
)
def test_settings_that_make_the_same_pairs_are_one_experiment(trial, tiny_index, settings, same, stages):
    """In the decoder stage, whose other clips are no negatives by polarity; and where far frames are ignored."""
    one, other = (chain(trial(**settings | changes), tiny_index) for changes in ({}, same))
    equal = {name for name in ("encoder", "decoder") if one.stage(name).inputs == other.stage(name).inputs}
    assert equal == stages


def test_where_negatives_come_from_is_in_the_key_where_it_is_read(trial, tiny_index):
    """Polarity `negative` of other clips alone: the decoder stage is left with the sampler."""
    one, other = (
        chain(trial(temporal__polarity="negative", temporal__negatives=where), tiny_index) for where in ("all", "cross")
    )
    assert all(one.stage(name).inputs != other.stage(name).inputs for name in ("encoder", "decoder"))


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"labels__fraction": 0.5}, {"encoder", "decoder"}),
        ({"speckle__weight": 0.1}, {"encoder", "decoder"}),
        ({"seed": {"finetune": 3}}, {"encoder", "decoder"}),
        ({"temporal__polarity": "positive", "temporal__stage": "decoder"}, {"encoder"}),
        ({"decoder__level": 3}, {"encoder"}),
        ({"evaluate__tta": "flip"}, {"encoder", "decoder", "finetune"}),
        ({"image": {"size": 32, "norm": "zscore"}}, set()),
        ({"seed": {"pretrain": 3}}, set()),
        ({"split__seed": 5}, set()),
    ],
)
def test_a_setting_changes_the_keys_of_the_stages_that_read_it(trial, tiny_index, change, kept):
    before, after = keys_of(trial(), tiny_index), keys_of(trial(**change), tiny_index)
    assert {name for name in before if before[name] == after[name]} == kept


@pytest.mark.parametrize(
    "option",
    [{"density": "decreasing"}, {"soft": True}, {"hard_beta": 1.0}, {"curriculum": "steps"}, {"curriculum": "cosine"}],
)
def test_a_sampling_option_is_in_the_keys_of_the_stages_with_temporal_pairs(trial, tiny_index, option):
    paired = {"temporal__polarity": "positive_negative", "temporal__stage": "decoder"}
    options = {f"temporal__{name}": value for name, value in option.items()}
    before, after = (keys_of(trial(**paired, **changes), tiny_index) for changes in ({}, options))
    assert before["encoder"] == after["encoder"] and before["decoder"] != after["decoder"]


def test_sampling_options_at_their_defaults_are_in_no_key(trial, tiny_index):
    """Keys of before they existed still hold."""
    inputs = chain(trial(temporal__polarity="positive_negative"), tiny_index).stage("encoder").inputs
    assert set(canonical(inputs)["pairs"]) == {"polarity", "window", "unit", "guard", "negatives", "shuffled"}


def test_soft_positives_are_moot_where_near_frames_are_no_positives(trial, tiny_index):
    one, other = (trial(temporal__polarity="negative", temporal__soft=soft) for soft in (False, True))
    assert keys_of(one, tiny_index) == keys_of(other, tiny_index)


@pytest.mark.parametrize(
    "moot",
    [
        {"image__size": 16},
        {"image__norm": "zscore"},
        {"evaluate__tta": "flip"},
        {"finetune__steps": 3},
        {"network__norm": "instance"},
        {"labels__draw": 7},
    ],
)
def test_the_real_nnunet_works_at_native_size_and_plans_by_itself(trial, tiny_index, moot):
    before = keys_of(trial(method="nnunetv2"), tiny_index)
    assert keys_of(trial(method="nnunetv2", **moot), tiny_index) == before


@pytest.mark.parametrize(
    "change",
    [
        {"nnunet__steps": 3},
        {"nnunet__augment": "nnunet"},
        {"nnunet__batch": 4},
        {"nnunet__longest_px": 32},
        {"speckle__weight": 0.1},
        {"labels__fraction": 0.5},
        {"seed": {"finetune": 3}},
        {"method": "nnunet2d"},
    ],
)
def test_what_the_real_nnunet_reads_makes_another_cell(trial, tiny_index, change):
    before = chain(trial(method="nnunetv2"), tiny_index)
    after = chain(trial(**{"method": "nnunetv2"} | change), tiny_index)
    assert [stage.name for stage in after.stages] == ["finetune", "evaluate/val", "evaluate/test"]
    assert after.cell != before.cell


def test_containment_is_in_the_real_nnunets_key(trial, tiny_index):
    """Its regions come from there; no other method reads it."""
    import dataclasses

    flat = dataclasses.replace(tiny_index, contains={})
    package = trial(method="nnunetv2")
    assert chain(package, flat).cell != chain(package, tiny_index).cell
    assert chain(trial(), flat).cell == chain(trial(), tiny_index).cell


def test_pretraining_reads_no_clip_of_a_held_out_patient(trial, tiny_index):
    links = chain(trial(), tiny_index)
    held_out = {case[:2] for name in ("evaluate/val", "evaluate/test") for case in links.stage(name).data.cases}
    assert held_out and not held_out & {clip[:2] for clip in links.stage("encoder").data.clips}


def test_content_is_in_the_key(trial, tiny_index):
    import dataclasses

    changed = dataclasses.replace(tiny_index.clips[0], content="0" * 64)
    clips = tuple(changed if clip is tiny_index.clips[0] else clip for clip in tiny_index.clips)
    other = dataclasses.replace(tiny_index, clips=clips)
    if changed.clip in chain(trial(), tiny_index).stage("encoder").data.clips:
        assert keys_of(trial(), other) != keys_of(trial(), tiny_index)
    renamed = dataclasses.replace(tiny_index, name="other")
    assert keys_of(trial(), renamed) == keys_of(trial(), tiny_index)


def test_a_bumped_stage_version_makes_a_new_key(trial, tiny_index):
    stage = chain(trial(), tiny_index).stage("encoder")
    key = stage_key(stage.kind, stage.inputs, data="d", parent=None)
    assert key == stage_key(stage.kind, stage.inputs, data="d", parent=None, version=STAGE_VERSION["encoder"])
    assert key != stage_key(stage.kind, stage.inputs, data="d", parent=None, version=STAGE_VERSION["encoder"] + 1)


@given(st.floats(min_value=1e-9, max_value=1e3), st.booleans())
def test_equal_numbers_written_otherwise_give_one_canonical_value(lr, as_text):
    """1e-3 and 0.001, and a default written out, are the same request."""
    written = {"steps": 1, "lr": repr(lr) if as_text else lr, "batch": 1}
    base = {"data": "d", "image": {"size": 32}, "network": {"preset": "tiny"}}
    stages = {"encoder": {"steps": 1, "lr": 1, "clips": 2, "frames": 2}}
    stages["decoder"] = stages["encoder"] | {"level": 1}
    plain = TrialSpec(**base, **stages, finetune=written)
    spelled = TrialSpec(**base, **stages, finetune={**written, "lr": lr, "loss": "dice_ce"}, speckle={"weight": 0})
    assert canonical(plain) == canonical(spelled)


def test_a_neutral_value_is_left_out():
    from pydantic import Field

    class Later(Section):
        old: int = 1
        new: str = Field("off", json_schema_extra={"neutral": "off"})

    assert canonical(Later()) == {"old": 1}
    assert canonical(Later(new="on")) == {"old": 1, "new": "on"}


def test_an_unknown_speckle_class_is_refused(trial, tiny_index):
    spec = trial(speckle={"weight": 0.1, "classes": ("cortex",)})
    with pytest.raises(
        SpecError, match=r"^speckle.classes: 'cortex' is no class of dataset 'tiny'; it has outer, inner$"
    ):
        chain(spec, tiny_index)


def test_speckle_classes_default_to_those_that_contain_no_other(trial, tiny_index):
    inputs = chain(trial(speckle__weight=0.1), tiny_index).stage("finetune").inputs
    assert inputs.speckle.classes == ("inner",)


def test_too_few_patients_for_a_split_is_said(trial, tiny_index):
    import dataclasses

    lonely = dataclasses.replace(tiny_index, cases=tiny_index.cases[:3])
    with pytest.raises(DataError, match="splitting into train, test, validation needs at least 3"):
        chain(trial(), lonely)


def test_whose_a_case_is_counts_for_evaluations_alone(tiny_index):
    """Means are taken patient by patient; training does not ask."""
    import dataclasses

    cases = tuple(dataclasses.replace(case, patient="q" + case.patient) for case in tiny_index.cases)
    renamed, data = dataclasses.replace(tiny_index, cases=cases), DataSlice(cases=tuple(case.case for case in cases))
    assert data_hash(data, tiny_index) == data_hash(data, renamed)
    assert data_hash(data, tiny_index, with_patients=True) != data_hash(data, renamed, with_patients=True)


def test_random_weights_may_have_the_steps_of_the_pretraining_they_lack(trial, tiny_index):
    steps = (
        chain(trial(method="supervised", finetune__budget="total"), tiny_index).stage("finetune").inputs.finetune.steps
    )
    assert steps == 6 + 4 + 8
    own, total = (chain(trial(finetune__budget=budget), tiny_index).cell for budget in ("own", "total"))
    assert own == total, "a pretrained network has had them"


def test_steps_that_a_total_budget_adds_up_are_not_moot_to_the_table():
    for name in ("encoder.steps", "decoder.steps"):
        assert not is_moot(name, {"method": "supervised", "finetune.budget": "total"})
        assert is_moot(name, {"method": "supervised", "finetune.budget": "own"})
        assert is_moot(name, {"method": "nnunet2d", "finetune.budget": "total"})
    assert is_moot("encoder.lr", {"method": "supervised", "finetune.budget": "total"})


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "supervised", "network": {"preset": "tiny", "heads": "softmax"}, "evaluate__tta": "flip"},
        {"method": "nnunet2d", "nnunet": {"steps": 6, "base_width": 8, "augment": "nnunet"}},
    ],
)
def test_an_evaluation_is_read_back_from_its_manifest(trial, tiny_index, changes):
    """`uscl export` predicts by what the store says of the evaluation, neutral values left out."""
    inputs = chain(trial(**changes), tiny_index).stage("evaluate/test").inputs
    assert type(inputs)(**json.loads(json.dumps(canonical(inputs)))) == inputs


def test_speckle_classes_are_a_set(trial, tiny_index):
    cells = {
        chain(trial(speckle={"weight": 0.1, "classes": classes}), tiny_index).cell
        for classes in (("outer", "inner"), ("inner", "outer"), ("inner", "outer", "inner"))
    }
    assert len(cells) == 1


def test_a_choice_that_changes_no_case_changes_no_key(trial, tiny_index):
    """Keys are made of the chosen cases: naming their quality, or their only rater, is no new experiment."""
    rated = replace(tiny_index, cases=tuple(replace(c, rater="ann", quality="Fair") for c in tiny_index.cases))
    chosen = trial(labels__rater="ann", labels__quality=["Fair"])
    assert keys_of(trial(), tiny_index) == keys_of(trial(), rated) == keys_of(chosen, rated)
    with pytest.raises(SpecError, match=r"^labels\.rater: 'bob' is no rater of dataset 'tiny'; it has ann$"):
        chain(trial(labels__rater="bob"), rated)


def test_another_rater_is_another_network_on_the_same_pretraining(trial, tiny_index):
    theirs = [replace(c, case=f"{c.case}@bob", image=c.case, rater="bob", content="x") for c in tiny_index.cases]
    ours = [replace(c, rater="ann") for c in tiny_index.cases]
    rated = replace(tiny_index, cases=(*ours, *theirs))
    ann, bob = (keys_of(trial(labels__rater=rater), rated) for rater in ("ann", "bob"))
    assert ann == keys_of(trial(), tiny_index)
    assert {name for name in ann if ann[name] == bob[name]} == {"encoder", "decoder"}
