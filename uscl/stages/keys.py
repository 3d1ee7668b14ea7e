"""The stages of a trial: what each may read, and the content key that names its output.

`chain` turns a TrialSpec and a dataset's index into frozen inputs values. A key is the sha256 of exactly that
value, the parent's key, the version of the stage's code and the contents of the data it may read. A stage is
handed nothing else, so what is not in its key cannot influence it (design.md 4.1).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from uscl.data.raters import choose_cases
from uscl.data.schema import DatasetIndex
from uscl.data.splits import Part, Split, cases_of, labelled_cases, pretraining_clips, split_units
from uscl.errors import SpecError
from uscl.records import StageRef
from uscl.spec.methods import sections_read
from uscl.spec.networks import NNUNET_BASE_WIDTH
from uscl.spec.nnunet_plan import nnunet_network, with_planned_batch
from uscl.spec.regions import Containment, containment
from uscl.spec.trial import ContrastSpec, FinetuneSpec, ImageSpec, NetworkSpec, SpeckleSpec, TemporalSpec, TrialSpec
from uscl.spec.variants import PretrainingStage, contrast_settings, decoder_settings, encoder_settings, pair_rule
from uscl.stages.canonical import canonical, digest
from uscl.stages.inputs import (
    ContrastInputs,
    DecoderInputs,
    EncoderInputs,
    EvaluateInputs,
    FinetuneInputs,
    FinetuneSettings,
    NnunetInputs,
    PackageInputs,
    PairInputs,
    StageInputs,
)
from uscl.stages.pixel_inputs import pixel_inputs, pixpro_inputs

STAGE_VERSION: Mapping[str, int] = {"encoder": 1, "decoder": 2, "finetune": 2, "evaluate": 2}
"""Raised whenever the numbers of a stage change; tests/stages/test_golden.py holds the losses that go with it."""

NNUNET_METHODS = ("nnunet2d", "nnunetv2")

EVALUATED_PARTS: Mapping[Literal["val", "test"], Part] = {"val": "validation", "test": "test"}
"""The two evaluations of a chain, as in `val/dsc`, and the part of the split that each reads."""


@dataclass(frozen=True, slots=True)
class DataSlice:
    """The clips and cases one stage may read, by id."""

    clips: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    """Cases to train on, or to evaluate."""
    validation: tuple[str, ...] = ()
    """Cases by which fine-tuning selects its best step; empty where it takes the last."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One link of a trial's chain."""

    name: str
    """`encoder`, `decoder`, `finetune`, `evaluate/val` or `evaluate/test`."""
    kind: str
    key: str
    inputs: StageInputs
    data: DataSlice
    parent: StageRef | None

    @property
    def ref(self) -> StageRef:
        """Where the stage's output lives."""
        return StageRef(self.kind, self.key)


@dataclass(frozen=True, slots=True)
class Chain:
    """The stages of one trial in order, and the cell's id (the key of its `finetune` stage)."""

    stages: tuple[Stage, ...]
    cell: str

    def scored_on(self, parts: Collection[str]) -> Chain:
        """The chain with those of its evaluations only; a cell of a search has no test score until it wins."""
        return Chain(tuple(s for s in self.stages if "/" not in s.name or s.name.split("/")[1] in parts), self.cell)

    def stage(self, name: str) -> Stage:
        """The stage of that name; KeyError where the chain has none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)


def chain(spec: TrialSpec, index: DatasetIndex) -> Chain:
    """The stages of a trial on a dataset, with their keys.

    DataError where the split or the label fraction is impossible; SpecError where a setting names a class, rater or
    quality that the dataset lacks.
    """
    index = choose_cases(index, rater=spec.labels.rater, quality=spec.labels.quality)
    split = split_units(index, **spec.split.model_dump())
    stages = _pretraining(spec, index, split)
    parent = stages[-1].ref if stages else None
    labelled = _labelled(spec, index, split)
    trained = _nnunet_inputs(spec, index, labelled) if spec.method in NNUNET_METHODS else _finetune_inputs(spec, index)
    finetune = _stage("finetune", trained, labelled, parent, index)
    stages.append(finetune)
    for part, split_part in EVALUATED_PARTS.items():
        cases = DataSlice(cases=cases_of(index, split, split_part))
        inputs = _evaluate_inputs(spec, index, part)
        stages.append(_stage(f"evaluate/{part}", inputs, cases, finetune.ref, index))
    return Chain(stages=tuple(stages), cell=finetune.key)


def _pretraining(spec: TrialSpec, index: DatasetIndex, split: Split) -> list[Stage]:
    """The stages before fine-tuning, in order; none where the method starts from random weights."""
    stages: list[Stage] = []
    clips = DataSlice(clips=pretraining_clips(index, split))
    if "encoder" in sections_read(spec.method, spec.pixel.start):
        encoder = EncoderInputs(**_pretraining_inputs(spec, "encoder"), encoder=encoder_settings(spec))
        stages.append(_stage("encoder", encoder, clips, None, index))
    parent = stages[-1].ref if stages else None
    if spec.method == "pixel_supcon":
        cases = _labelled(spec, index, split, selects=False)
        stages.append(_stage("decoder", pixel_inputs(spec, network=_body(spec), index=index), cases, parent, index))
    elif spec.method == "contrastive":
        decoder = DecoderInputs(**_pretraining_inputs(spec, "decoder"), decoder=decoder_settings(spec))
        stages.append(_stage("decoder", decoder, clips, parent, index))
    return stages


def stage_key(kind: str, inputs: StageInputs, *, data: str, parent: str | None, version: int | None = None) -> str:
    """sha256 (hex) of the canonical JSON of what the stage reads; `version` defaults to STAGE_VERSION[kind]."""
    document = {
        "kind": kind,
        "version": STAGE_VERSION[kind] if version is None else version,
        "inputs": canonical(inputs),
        "data": data,
        "parent": parent,
    }
    return digest(document)


def data_hash(data: DataSlice, index: DatasetIndex, *, with_patients: bool = False) -> str:
    """Hash of the ids and contents a stage may read; equal selections hash alike, whatever chose them.

    `with_patients`: the stage reads whose the cases are too, as an evaluation does for its means.
    """
    clips = {clip.clip: clip.content for clip in index.clips}
    cases = {case.case: case.content for case in index.cases}
    patients = {case.case: case.patient for case in index.cases} if with_patients else {}
    return digest(
        {
            "patients": sorted((case, patients[case]) for case in data.cases if with_patients),
            "clips": sorted((clip, clips[clip]) for clip in data.clips),
            "cases": sorted((case, cases[case]) for case in data.cases),
            "validation": sorted((case, cases[case]) for case in data.validation),
        }
    )


def _stage(name: str, inputs: StageInputs, data: DataSlice, parent: StageRef | None, index: DatasetIndex) -> Stage:
    kind = name.split("/")[0]
    # in sorted order, because a stage may draw by position and equal selections are one key
    data = DataSlice(*(tuple(sorted(ids)) for ids in (data.clips, data.cases, data.validation)))
    read = data_hash(data, index, with_patients=kind == "evaluate")
    key = stage_key(kind, inputs, data=read, parent=parent.key if parent else None)
    return Stage(name=name, kind=kind, key=key, inputs=inputs, data=data, parent=parent)


def _contrast_inputs(contrast: ContrastSpec) -> ContrastInputs:
    if contrast.loss == "infonce":
        return ContrastInputs(
            loss="infonce", form=contrast.form, temperature=contrast.temperature, margin=None, distance=None
        )
    if contrast.loss == "pixpro":
        return pixpro_inputs(contrast)
    return ContrastInputs(
        loss="pairwise", form=None, temperature=None, margin=contrast.margin, distance=contrast.distance
    )


def _pair_inputs(temporal: TemporalSpec, stage: PretrainingStage) -> PairInputs:
    if temporal.polarity == "none" or temporal.stage not in (stage, "both"):
        return PairInputs(polarity="none")
    polarity, negatives = pair_rule(temporal, stage)
    return PairInputs(
        polarity=polarity,
        window=temporal.window,
        unit=temporal.unit,
        guard=temporal.guard,
        negatives=negatives,
        shuffled=temporal.shuffled,
        density=temporal.density,
        soft=temporal.soft and polarity != "negative",
        hard_beta=temporal.hard_beta,
        curriculum=temporal.curriculum,
    )


def _pretraining_inputs(spec: TrialSpec, stage: PretrainingStage) -> dict[str, Any]:
    """What both pretraining stages read."""
    return {
        "seed": spec.seed.pretrain,
        "image": spec.image,
        "network": _body(spec),
        "contrast": _contrast_inputs(contrast_settings(spec, stage)),
        "pairs": _pair_inputs(spec.temporal, stage),
    }


def _finetune_inputs(spec: TrialSpec, index: DatasetIndex) -> FinetuneInputs:
    pretrained = spec.method != "supervised"
    return FinetuneInputs(
        seed=spec.seed.finetune,
        image=spec.image,
        network=_network(spec),
        finetune=_finetune_settings(_budgeted(spec), pretrained=pretrained, batch_norm=spec.network.norm == "batch"),
        speckle=_speckle_inputs(spec.speckle, index),
        classes=index.classes,
        contains=_containment(spec, index),
    )


def _nnunet_inputs(spec: TrialSpec, index: DatasetIndex, labelled: DataSlice) -> NnunetInputs | PackageInputs:
    if spec.method == "nnunetv2":  # the package plans for itself
        return PackageInputs(
            engine="nnunetv2",
            seed=spec.seed.finetune,
            nnunet=spec.nnunet,
            speckle=_speckle_inputs(spec.speckle, index),
            classes=index.classes,
            contains=index.contains,
        )
    counts = {"num_cases": len(labelled.cases), "num_classes": len(index.classes)}
    nnunet = with_planned_batch(spec.nnunet, spec.image.size, **counts)
    return NnunetInputs(
        engine="nnunet2d",
        seed=spec.seed.finetune,
        image=_image(spec),
        nnunet=nnunet,
        speckle=_speckle_inputs(spec.speckle, index),
        classes=index.classes,
    )


def _image(spec: TrialSpec) -> ImageSpec:
    """What the network sees; nnU-Net's recipe scales each frame to mean 0 and standard deviation 1."""
    return spec.image.model_copy(update={"norm": "zscore"}) if spec.method == "nnunet2d" else spec.image


def _tta(spec: TrialSpec) -> str:
    """Test-time mirrors: nnU-Net's recipe averages over those that it trained with."""
    if spec.method == "nnunet2d":
        return "mirror" if spec.nnunet.augment == "nnunet" else "flip"
    return spec.evaluate.tta


def _network(spec: TrialSpec) -> NetworkSpec:
    """The network a trial trains: nnU-Net's under its methods; `base_width` counts for nnU-Net's only."""
    if spec.method in NNUNET_METHODS:
        return nnunet_network(spec.nnunet)
    if spec.network.preset == "nnunet2d":
        return spec.network
    return spec.network.model_copy(update={"base_width": NNUNET_BASE_WIDTH})


def _body(spec: TrialSpec) -> NetworkSpec:
    """The network without its tail, which is never pretrained: heads are none of pretraining's business."""
    return _network(spec).model_copy(update={"heads": "sigmoid"})


def _containment(spec: TrialSpec, index: DatasetIndex) -> Containment:
    """Read by exclusive classes alone; SpecError where classes overlap partially."""
    return containment(index.classes, index.contains) if _network(spec).heads == "softmax" else ()


def _finetune_settings(finetune: FinetuneSpec, *, pretrained: bool, batch_norm: bool) -> FinetuneSettings:
    moot: dict[str, bool | None] = {}
    if finetune.augment != "chaitanya":
        moot["faithful_bugs"] = False
    if finetune.select == "last":
        moot["select_every"] = None
    if not pretrained:
        moot["freeze"] = None
    if not (pretrained and batch_norm):
        moot["transfer_bn_stats"] = None
    return FinetuneSettings(**(finetune.model_dump(exclude={"budget"}) | moot))


def _budgeted(spec: TrialSpec) -> FinetuneSpec:
    """Fine-tuning with the steps it gets: random weights may be given those of the pretraining they lack."""
    if spec.method != "supervised" or spec.finetune.budget == "own":
        return spec.finetune
    steps = spec.encoder.steps + spec.decoder.steps + spec.finetune.steps
    return spec.finetune.model_copy(update={"steps": steps})


def _speckle_inputs(speckle: SpeckleSpec, index: DatasetIndex) -> SpeckleSpec | None:
    if speckle.weight == 0:
        return None
    unknown = sorted(set(speckle.classes) - set(index.classes))
    if unknown:
        raise SpecError(
            f"speckle.classes: '{unknown[0]}' is no class of dataset '{index.name}'; it has {', '.join(index.classes)}"
        )
    defaults = {name: SpeckleSpec.model_fields[name].default for name in _moot_speckle(speckle)}
    chosen = tuple(name for name in index.classes if name in (speckle.classes or index.leaf_classes))
    return speckle.model_copy(update=defaults | {"classes": chosen})  # in one order, each once: a set is meant


def _moot_speckle(speckle: SpeckleSpec) -> list[str]:
    """Settings of the speckle term that its other settings leave unread."""
    read = {
        "estimator": speckle.model == "nakagami",
        "form": speckle.model != "histogram",
        "band_px": speckle.region == "band",
        "patch_px": speckle.region == "patch",
        "dynamic_range_db": speckle.domain == "decompressed",
    }
    return [name for name, is_read in read.items() if not is_read]


def _evaluate_inputs(spec: TrialSpec, index: DatasetIndex, part: Literal["val", "test"]) -> EvaluateInputs:
    package = spec.method == "nnunetv2"  # its predictor normalises, plans and mirrors by itself
    return EvaluateInputs(
        part=part,
        engine="nnunetv2" if package else "unet",
        image=None if package else _image(spec),
        network=None if package else _network(spec),
        tta="none" if package else _tta(spec),
        classes=index.classes,
        leaf_classes=index.leaf_classes,
        contains=_containment(spec, index),
    )


def _labelled(spec: TrialSpec, index: DatasetIndex, split: Split, *, selects: bool = True) -> DataSlice:
    """Labelled training cases, and with them the validation cases where the stage selects a step by them."""
    selects = selects and spec.method not in NNUNET_METHODS and spec.finetune.select == "best_val"
    return DataSlice(
        cases=labelled_cases(index, split, fraction=spec.labels.fraction, draw=spec.labels.draw),
        validation=cases_of(index, split, "validation") if selects else (),
    )
