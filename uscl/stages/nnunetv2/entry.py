"""nnU-Net's process: plan, preprocess and train one job, `python -m uscl.stages.nnunetv2.entry FOLDER`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from safetensors.torch import save_file

from uscl.stages.context import WEIGHTS
from uscl.stages.nnunetv2.exchange import OUT, RESUME, Job, Monitor, write_result
from uscl.stages.nnunetv2.raw import (
    CONFIGURATION,
    DATASET_ID,
    PLANS,
    TRAIN_ENVIRONMENT,
    edit_plans,
    preprocessed_folder,
)
from uscl.stages.nnunetv2.trainer import Diverged, PackageTrainer, Stopped


def main(root: Path) -> None:
    """Do the job that lies in `root`; what comes of it lies there too."""
    job, monitor = Job.read(root), Monitor(root)
    monitor.listen()
    torch.set_num_threads(job.threads)
    plans = plan(job, root)
    os.environ.update(TRAIN_ENVIRONMENT)
    trainer = start(job, monitor, root=root, plans=plans)
    try:
        trainer.run_training()
    except Stopped:
        write_result(root, {"outcome": "stopped"})
        return
    except Diverged:
        write_result(root, _result(trainer, "diverged"))
        return
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in trainer.weights().items()}
    finite = all(bool(tensor.isfinite().all()) for tensor in weights.values())
    _publish(root, trainer, weights)
    write_result(root, _result(trainer, "done" if finite else "diverged"))


def plan(job: Job, root: Path) -> dict[str, Any]:
    """The package's fingerprint and plans, edited by the job's batch and width, and its preprocessed cases."""
    extract_fingerprints([DATASET_ID], num_processes=1, verbose=False, show_progress_bar=False)
    plan_experiments([DATASET_ID])
    path = preprocessed_folder(root) / f"{PLANS}.json"
    settings = job.inputs.nnunet
    plans = edit_plans(json.loads(path.read_text()), batch=settings.batch, base_width=settings.base_width)
    path.write_text(json.dumps(plans, indent=1), encoding="utf-8")
    preprocess([DATASET_ID], PLANS, (CONFIGURATION,), num_processes=(1,), show_progress_bar=False)
    return plans


def start(job: Job, monitor: Monitor, *, root: Path, plans: dict[str, Any]) -> PackageTrainer:
    """A trainer that is ready to run, at the job's resume point if it has one."""
    dataset = json.loads((preprocessed_folder(root) / "dataset.json").read_text())
    trainer = PackageTrainer(
        plans=plans | {"continue_training": False},
        configuration=CONFIGURATION,
        fold=0,
        dataset_json=dataset,
        device=torch.device(job.device),
    )
    trainer.follow(job, monitor, root=root)
    trainer.initialize()
    if (root / RESUME).exists():
        trainer.resume((root / RESUME).read_bytes())
    return trainer


def _publish(root: Path, trainer: PackageTrainer, weights: dict[str, torch.Tensor]) -> None:
    out = root / OUT
    out.mkdir()
    save_file(weights, out / WEIGHTS)
    base = Path(trainer.output_folder_base)
    for name in ("plans.json", "dataset.json", "dataset_fingerprint.json"):
        shutil.copyfile(base / name, out / name)
    inference = {
        "mirror_axes": list(trainer.inference_allowed_mirroring_axes),
        "configuration": CONFIGURATION,
        "longest_px": trainer.job.inputs.nnunet.longest_px,
    }
    (out / "inference.json").write_text(json.dumps(inference), encoding="utf-8")


def _result(trainer: PackageTrainer, outcome: str) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "points": trainer.points,
        "frames_per_s": trainer.frames_per_s,
        "batch": trainer.batch_size,
        "parameters": sum(weight.numel() for weight in trainer.network.parameters()),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
