"""A model: weights and model.json of a finished cell, all that predicting needs, in the store or in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from uscl.data.dataset import read_document
from uscl.data.phantom_cache import phantom_folder
from uscl.errors import DataError, SpecError, StoreError
from uscl.models.outputs import THRESHOLD
from uscl.records import CellPlan, Outcome, StageManifest
from uscl.stages.context import CURVES, WEIGHTS
from uscl.stages.evaluate import Predictor, load_predictor
from uscl.stages.inputs import EvaluateInputs
from uscl.stages.loop import unpack_tensors
from uscl.stages.nnunetv2.stage import PACKAGE
from uscl.store.files import Files
from uscl.store.roots import StoreRoot
from uscl.store.stages import StageStore
from uscl.store.strict_json import decode_json, encode_json
from uscl.store.sweeps import SweepFolder, list_sweeps

MODEL_FILE = "model.json"
FORMAT, VERSION = "uscl model", 1


@dataclass(frozen=True, slots=True)
class Model:
    """What `model.json` says, and the files beside it by name."""

    document: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def inputs(self) -> EvaluateInputs:
        """How the cell was evaluated: engine, preprocessing, network and classes."""
        return EvaluateInputs(**self.document["evaluate"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the masks."""
        return self.inputs.classes

    def predictor(self, device: torch.device) -> Predictor:
        """Masks (K, H, W) from a frame (H, W) uint8: the very function that scored the cell.

        SpecError where it is the real nnU-Net package and that is not installed.
        """
        if self.inputs.engine == PACKAGE and find_spec(PACKAGE) is None:
            raise SpecError(f"this model predicts with the real {PACKAGE} package: pip install 'uscl[nnunet]'")
        weights = unpack_tensors(self.files[WEIGHTS], torch.device("cpu"))
        return load_predictor(self.inputs, weights, read=self.files.__getitem__, device=device)


@dataclass(frozen=True, slots=True)
class FoundCell:
    """A cell, and the sweep that planned it."""

    plan: CellPlan
    sweep: SweepFolder


def find_cell_anywhere(store_root: StoreRoot, text: str) -> FoundCell:
    """The cell whose id starts with `text`, over all sweeps of a store. SpecError where none or several do."""
    found: dict[tuple[str, str], FoundCell] = {}
    for sweep in list_sweeps(store_root):
        for cell in sweep.read_cells():
            if text and cell.cell.startswith(text.lower()):
                found.setdefault((cell.cell, cell.namespace), FoundCell(cell, sweep))
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        shown = ", ".join(f"{each.plan.cell[: len(text) + 4]} in {each.sweep.identity}" for each in found.values())
        raise SpecError(f"cell {text!r} could be any of {len(found)}: {shown}; give more digits, or --sweep")
    if text.isdecimal():
        raise SpecError(
            f"no cell id starts with {text!r} in {store_root}; a cell's number needs its sweep: --sweep NAME"
        )
    raise SpecError(f"no cell id starts with {text!r} in {store_root}; `uscl check FILE` prints ids; see also --store")


def model_of_cell(store_root: StoreRoot, found: FoundCell) -> Model:
    """The model of a finished cell. StoreError where the cell has not finished or diverged."""
    plan = found.plan
    store = StageStore(store_root).scoped(plan.namespace)
    manifests = _finished(store, plan)
    trained, evaluated = manifests["finetune"], manifests["evaluate/test"]
    names = [name for name in trained.files if name != CURVES]
    files = {name: store.read(trained.ref, name) for name in names}
    inputs = EvaluateInputs(**evaluated.inputs)
    metrics = [each.metrics for name, each in manifests.items() if name.startswith("evaluate")]
    document = {
        "format": FORMAT,
        "version": VERSION,
        "cell": plan.cell,
        "sweep": found.sweep.identity,
        "label": plan.label,
        "engine": inputs.engine,
        "classes": list(inputs.classes),
        "contains": _contains(found.sweep, trained),
        "preprocessing": _preprocessing(inputs),
        "metrics": {name: value for each in metrics for name, value in each.items()},
        "flags": sorted({flag for each in manifests.values() for flag in each.flags}),
        "settings": dict(plan.settings),
        "evaluate": evaluated.inputs,
        "provenance": dict(trained.provenance),
        "files": {name: _sha256(content) for name, content in sorted(files.items())},
    }
    return Model(document, files)


def write_model(model: Model, out: Path) -> None:
    """Write a model's folder, model.json last. DataError where `out` is there and not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; choose another folder, or remove it")
    files = Files(out)
    for name, content in model.files.items():
        files.write(name, content)
    files.write(MODEL_FILE, encode_json(model.document, indent=1))


def read_model(folder: Path) -> Model:
    """What `write_model` wrote. DataError where it is none, of another version, or a file is not what it was."""
    try:
        document = decode_json((folder / MODEL_FILE).read_bytes())
        known = document["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: is no exported model: {MODEL_FILE} cannot be read ({error})") from error
    if not known or document["version"] != VERSION:
        raise DataError(f"{folder}: {MODEL_FILE} is of another kind or version; export the cell again")
    files = {}
    for name, wanted in document["files"].items():
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        if _sha256(content) != wanted:
            raise DataError(f"{folder}: {name} is missing or not as it was exported; export the cell again")
        files[name] = content
    return Model(document, files)


def _finished(store: StageStore, plan: CellPlan) -> dict[str, StageManifest]:
    """Manifests by stage name; what a cell lacks, or that it diverged, is an error of one line."""
    cell = f"cell {plan.number} ({plan.label}, {plan.cell[:10]})"
    manifests = {name: manifest for name, ref in plan.stages.items() if (manifest := store.manifest(ref))}
    if any(manifest.outcome is Outcome.DIVERGED for manifest in manifests.values()):
        raise StoreError(f"{cell} diverged: it has no weights to use")
    needed = [name for name in plan.stages if name == "finetune" or name.startswith("evaluate")]
    missing = [name for name in needed if name not in manifests]
    if missing:
        raise StoreError(f"{cell} has not finished: no {', '.join(missing)} yet; run its sweep to the end first")
    return manifests


def _contains(sweep: SweepFolder, trained: StageManifest) -> Mapping[str, Any] | None:
    """Which class lies within which: from the stage's inputs or its dataset; None where that cannot be seen."""
    contained = trained.inputs.get("contains")
    if isinstance(contained, Mapping):
        return contained
    path = str((sweep.read_sweep() or {}).get("data", ""))
    generated = phantom_folder(sweep.store_root, str(trained.provenance.get("dataset_fingerprint", "")))
    try:
        document = read_document(generated if path == "phantom" else Path(path))
    except DataError:
        return None
    same = document["fingerprint"] == trained.provenance.get("dataset_fingerprint")
    return dict(document["contains"]) if same else None


def _preprocessing(inputs: EvaluateInputs) -> dict[str, Any]:
    """In words and numbers what `Model.predictor` does, for whoever rebuilds it elsewhere."""
    if inputs.image is None:
        return {"by": "nnunetv2: plans.json, dataset.json and inference.json beside the weights", "input": "8-bit grey"}
    return {
        "input": "8-bit grey",
        "size_px": inputs.image.size,
        "letterbox": "longest side to size_px, aspect kept, centred, black padding; area when shrinking, else linear",
        "norm": inputs.image.norm,
        "tta": inputs.tta,
        "output": _output(inputs),
        "threshold": THRESHOLD,
    }


def _output(inputs: EvaluateInputs) -> str:
    if inputs.network is not None and inputs.network.heads == "softmax":
        return (
            "softmax over background and one part per class, resampled, largest wins, a class is the union of its parts"
        )
    return "sigmoid per class, resampled linearly to the image's own size"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
