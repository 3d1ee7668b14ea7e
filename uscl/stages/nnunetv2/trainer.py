"""nnU-Net's own trainer, told our steps, seed, augmentation policy and speckle term; imported in its process only."""

# B batch, K classes in the order of nnU-Net's labels, H x W pixels

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from safetensors.torch import load, save
from torch import Tensor

from uscl.stages.context import seed_everything
from uscl.stages.loop import below
from uscl.stages.nnunetv2.exchange import Job, Monitor, state_metadata
from uscl.stages.nnunetv2.labels import LabelScheme
from uscl.stages.nnunetv2.raw import epochs_of
from uscl.stages.nnunetv2.speckle_term import RawCases, SpeckleTerm

US_SAFE_ROTATION = math.radians(15.0)
US_SAFE_MIRROR_AXES = (1,)
"""Left and right only: depth keeps its direction (axis 0 is rows)."""
SCALE_RANGE = (0.85, 1.25)
"""What the package reckons with where it widens a patch before it turns it."""


class Stopped(Exception):
    """The stage asked for a stop; the newest resume point is saved."""


class Diverged(Exception):
    """The loss is not finite."""


class PackageTrainer(nnUNetTrainer):  # type: ignore[misc]
    """nnUNetTrainer with our schedule. Every random draw of an epoch follows from (seed, epoch): a resume is exact."""

    def follow(self, job: Job, monitor: Monitor, *, root: Path) -> None:
        """Take the job's settings; before `initialize`."""
        settings = job.inputs.nnunet
        self.job, self.monitor, self.root = job, monitor, root
        self.num_epochs, self.num_iterations_per_epoch = epochs_of(settings.steps)
        self.num_val_iterations_per_epoch = 1  # a curve on training cases, by which nothing is chosen
        self.initial_lr = settings.lr
        self.disable_checkpointing = True  # they are pickles; ours are safetensors
        self.logger.plot_progress_png = lambda folder: None  # a figure of 30 x 54 inches after every epoch
        self.points: list[tuple[int, dict[str, float]]] = []
        self.step = self._first_step = 0
        self._started = self._saved_at = time.monotonic()
        self._snapshot: bytes | None = None
        self._term: SpeckleTerm | None = None
        seed_everything(job.inputs.seed, "finetune")

    @property
    def frames_per_s(self) -> float:
        """Frames of training batches per second since this process began to train."""
        frames = (self.step - self._first_step) * self.batch_size
        return float(frames / max(time.monotonic() - self._started, 1e-9))

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, bool, Any, tuple[int, ...]]:
        """Its own policy, or ours that keeps the depth axis."""
        own: tuple[Any, bool, Any, tuple[int, ...]]
        own = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.job.inputs.nnunet.augment == "nnunet":
            return own
        self.inference_allowed_mirroring_axes = US_SAFE_MIRROR_AXES
        angles = (-US_SAFE_ROTATION, US_SAFE_ROTATION)
        patch = get_patch_size(self.configuration_manager.patch_size, angles, angles, angles, SCALE_RANGE)
        return angles, own[1], patch, US_SAFE_MIRROR_AXES

    def plot_network_architecture(self) -> None:
        """Nothing: it needs a tool that draws graphs."""

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Its own, in this process; blur is done in one way, and raw grey levels come along for the speckle term."""
        train, validation = super().get_dataloaders()
        loader = train.data_loader
        for transform in loader.transforms.transforms:
            blur = getattr(transform, "transform", None)
            if isinstance(blur, GaussianBlurTransform):
                blur.benchmark = False  # it would time two ways of computing it and take the faster: other bits
        if self._term is not None:
            loader._data = RawCases(loader._data, self.root)
            loader.transforms = ComposeTransforms([_SetAside(), *loader.transforms.transforms, _PutBack()])
        return train, validation

    def _build_loss(self) -> Any:
        segmentation, inputs = super()._build_loss(), self.job.inputs
        if inputs.speckle is None:
            return segmentation
        scheme = LabelScheme.of(inputs.classes, inputs.contains)
        ignore = self.label_manager.ignore_label
        self._term = SpeckleTerm(
            segmentation,
            inputs.speckle,
            scheme,
            ignore_label=ignore,
            steps=inputs.nnunet.steps,
            device=self.device,
        )
        return self._term

    def on_train_epoch_start(self) -> None:
        """Seed every generator that augmentation and sampling draw from, then as the package does."""
        state = np.random.SeedSequence([self.job.inputs.seed, self.current_epoch]).generate_state(3)
        random.seed(int(state[0]))
        np.random.seed(int(state[1]))
        torch.manual_seed(int(state[2]))
        super().on_train_epoch_start()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One step of its own; beside the network's input goes the raw frame, for the loss alone. Stopped if asked."""
        if self.monitor.stopping:
            self._save(force=True)
            raise Stopped
        if self._term is None:
            outputs: dict[str, Any] = super().train_step(batch)
        else:
            frames_B3HW = batch["data"]
            with self._term.reading(frames_B3HW[:, 1:].to(self.device), step=self.step):
                outputs = super().train_step(batch | {"data": frames_B3HW[:, :1]})
            outputs |= self._term.last
        self.step += 1
        self.monitor.heartbeat(self.step, self.frames_per_s)
        return outputs

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """A point of the curve; Diverged where the epoch's mean loss is not finite."""
        super().on_train_epoch_end(train_outputs)
        names = train_outputs[0]
        values = {name: float(np.mean([float(each[name]) for each in train_outputs])) for name in names}
        self.points.append((self.step, values))
        if not math.isfinite(values["loss"]):
            raise Diverged

    def on_epoch_end(self) -> None:
        """As the package does; then remember where we are."""
        super().on_epoch_end()
        self._snapshot = self._pack()
        self._save(force=False)

    def resume(self, state: bytes) -> None:
        """Go on from a resume point; after `initialize`."""
        tensors, log = load(state), json.loads(state_metadata(state)["log"])
        load_weights(self.network, below(tensors, "network."))
        for number, momentum in below(tensors, "momentum.").items():
            weight = self.optimizer.param_groups[0]["params"][int(number)]
            self.optimizer.state[weight]["momentum_buffer"] = momentum.to(weight.device)
        if self._term is not None:
            self._term.balance.load_state(below(tensors, "speckle."))
        if self.grad_scaler is not None and log["scaler"]:
            self.grad_scaler.load_state_dict(log["scaler"])
        self.logger.load_checkpoint(log["logger"])
        self.current_epoch = log["epoch"]
        self.points = [(step, values) for step, values in log["points"]]
        self.step = self._first_step = self.current_epoch * self.num_iterations_per_epoch

    def weights(self) -> dict[str, Tensor]:
        """The network's weights, each once."""
        return unique_weights(self.network)

    def _pack(self) -> bytes:
        tensors = {f"network.{name}": tensor for name, tensor in self.weights().items()}
        for number, weight in enumerate(self.optimizer.param_groups[0]["params"]):
            if "momentum_buffer" in self.optimizer.state[weight]:
                tensors[f"momentum.{number}"] = self.optimizer.state[weight]["momentum_buffer"]
        if self._term is not None:
            tensors |= {f"speckle.{name}": tensor for name, tensor in self._term.balance.state().items()}
        log = {
            "epoch": self.current_epoch,
            "points": self.points,
            "logger": _plain(self.logger.get_checkpoint()),
            "scaler": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
        }
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        return bytes(save(held, metadata={"step": str(self.step), "log": json.dumps(log)}))

    def _save(self, *, force: bool) -> None:
        """Hand the newest epoch's end to the stage, where it is due or asked for; it is handed out once."""
        now = time.monotonic()
        if self._snapshot is None or not (force or now - self._saved_at >= self.job.progress_every_s):
            return
        self.monitor.save(self._snapshot, int(state_metadata(self._snapshot)["step"]))
        self._snapshot, self._saved_at = None, now


class _SetAside(BasicTransform):  # type: ignore[misc]
    """Raw planes leave the image before any transform: what moves pixels moves them too, what changes grey does not."""

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Channel 0 stays the image; the others become the regression target, which only spatial transforms touch."""
        image = data_dict["image"]
        return data_dict | {"image": image[:1].clone(), "regression_target": image[1:].clone()}


class _PutBack(BasicTransform):  # type: ignore[misc]
    """Raw planes return behind the image, as the loader hands on image and segmentation only."""

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Image and raw planes as channels of one tensor."""
        return data_dict | {"image": torch.cat([data_dict["image"], data_dict["regression_target"]])}


def unique_weights(network: torch.nn.Module) -> dict[str, Tensor]:
    """A network's tensors under one name each: the package's modules are registered up to four times."""
    return dict(network.named_parameters()) | dict(network.named_buffers())


def load_weights(network: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Put `unique_weights` back."""
    assert set(weights) == set(unique_weights(network)), "weights of another network"
    network.load_state_dict(weights, strict=False)  # the other names share their memory


def _plain(value: Any) -> Any:
    """Numbers of numpy in nested lists as JSON has them."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    return float(value)
