"""nnU-Net's folders for one run: its raw dataset from our cases, and the environment that points there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uscl.data.dataset import Case
from uscl.data.letterbox import Letterbox
from uscl.stages.nnunetv2.labels import LabelScheme, LossCount

DATASET_ID = 1
DATASET = f"Dataset{DATASET_ID:03d}_uscl"
CONFIGURATION = "2d"
PLANS = "nnUNetPlans"
REFERENCE_WIDTH = 32
"""Channels of the finest level in the package's own plans."""
MAX_WIDTH = 512
TRAIN_ENVIRONMENT = {"nnUNet_n_proc_DA": "0"}
"""Augmentation in the training process: the same draws each time, and no worker left behind."""


def case_name(number: int) -> str:
    """What nnU-Net calls the case at this place of our sorted ids: its file names allow less than our ids do."""
    return f"case_{number:05d}"


def write_raw(
    root: Path, cases: Iterable[Case], scheme: LabelScheme, *, longest_px: int | None = None
) -> dict[str, float]:
    """Write images, label maps, dataset.json and the split below `root`/nnUNet_raw; returns each class's lost share.

    8-bit grey PNG at native size, or shrunk to `longest_px`: lossless, and read as it is by the package's
    NaturalImage2DIO. Every case is in the training list and again in the validation list, which nnU-Net only draws a
    curve from. DataError where classes overlap partly.
    """
    folder = raw_folder(root)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    lost, names, ignores = LossCount(scheme), [], False
    for number, case in enumerate(cases):
        labels = scheme.encode(case.masks, case.known)
        lost.add(case.masks, labels, case.known)
        ignores = ignores or not bool(case.known.all())
        names.append(case_name(number))
        box = Letterbox.of(case.image, longest_px or max(case.image.shape))
        _write_png(image_path(root, names[-1]), box.shrunk(case.image))
        _write_png(folder / "labelsTr" / f"{names[-1]}.png", box.shrunk(labels, "nearest"))
    lost.refuse_overlaps()
    document = {
        "channel_names": {"0": "ultrasound"},
        **scheme.document(ignore=ignores),
        "numTraining": len(names),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    (folder / "dataset.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    (folder / "splits_final.json").write_text(json.dumps([{"train": names, "val": names}]), encoding="utf-8")
    return lost.fractions


def raw_folder(root: Path) -> Path:
    """The raw dataset below a run's folder."""
    return root / "nnUNet_raw" / DATASET


def preprocessed_folder(root: Path) -> Path:
    """Where nnU-Net keeps plans and preprocessed cases."""
    return root / "nnUNet_preprocessed" / DATASET


def image_path(root: Path, name: str) -> Path:
    """The file of one case's only channel."""
    return raw_folder(root) / "imagesTr" / f"{name}_0000.png"


def environment(root: Path, inherited: Mapping[str, str], *, threads: int) -> dict[str, str]:
    """The environment of nnU-Net's process: its three folders in `root`, no worker processes of its own, no compiler.

    One process for augmentation as long as it plans (0 is no number of threads there); TRAIN_ENVIRONMENT follows.
    """
    return dict(inherited) | {
        "nnUNet_raw": str(root / "nnUNet_raw"),
        "nnUNet_preprocessed": str(root / "nnUNet_preprocessed"),
        "nnUNet_results": str(root / "nnUNet_results"),
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        "nnUNet_wandb_enabled": "0",
        "OMP_NUM_THREADS": str(threads),
        "MPLBACKEND": "agg",
    }


def edit_plans(plans: dict[str, object], *, batch: int | None, base_width: int) -> dict[str, object]:
    """The package's plans with our batch size and width, where they differ from its own; as a user would edit them."""
    edited: dict[str, object] = json.loads(json.dumps(plans))
    configuration = edited["configurations"][CONFIGURATION]  # type: ignore[index]
    if batch is not None:
        configuration["batch_size"] = batch
    if base_width != REFERENCE_WIDTH:
        architecture = configuration["architecture"]["arch_kwargs"]
        stages = len(architecture["features_per_stage"])
        architecture["features_per_stage"] = [min(MAX_WIDTH, base_width * 2**stage) for stage in range(stages)]
    return edited


def epochs_of(steps: int) -> tuple[int, int]:
    """Epochs and iterations per epoch whose product is exactly `steps`; at least 50 epochs, or one a step.

    nnU-Net lowers its learning rate between epochs only. 250 000 steps give its own 1000 epochs of 250.
    """
    most = max(1, min(250, steps // 50))
    iterations = next(count for count in range(most, 0, -1) if steps % count == 0)
    return steps // iterations, iterations


def _write_png(path: Path, image_HW: NDArray[np.uint8]) -> None:
    done, encoded = cv2.imencode(".png", image_HW)
    assert done
    path.write_bytes(encoded.tobytes())
