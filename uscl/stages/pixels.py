"""Label-based pixel contrast: the whole U-Net but its tail, on labelled frames (Zhao et al. 2021).

It stands where the decoder stage does and starts from random weights, or from an encoder that was pretrained on
clips. Fine-tuning on the same labels follows.
"""
# B labelled frames, N views (two per frame), H x W px, C cells of a map, M drawn cells, K classes

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from uscl.data.augment import (
    PIXEL_INTENSITY,
    PRETRAIN_SPATIAL,
    change_intensity,
    draw_affine,
    draw_intensity,
    send,
    warp,
)
from uscl.data.labelled import load_labelled
from uscl.data.pixels import at_cells, class_ranks, compared_views, draw_per_class, innermost_class
from uscl.losses.dense import pixel_supcon, pixel_supcon_chance
from uscl.models.pixel_heads import PixelHead
from uscl.stages.context import StageContext, StageEvents, seed_everything, step_rng
from uscl.stages.inputs import PixelInputs
from uscl.stages.loop import below
from uscl.stages.pretraining import build_unet, describe_embeddings, evenly, pretrain

CHANCE_MIN = 1e-6
"""A batch without any anchor (one class in it) has chance 0; it counts as learning nothing, 1."""
DESCRIBED_PIXELS = 512
"""Of a batch, evenly spread over all views and classes."""


def train_pixels(context: StageContext) -> StageEvents:
    """Pretrain encoder and decoder by the labels of pixels; publishes both, without the projection head."""
    inputs = context.stage.inputs
    assert isinstance(inputs, PixelInputs)
    return (yield from pretrain(PixelTask(inputs, context), inputs.pixel, context))


class PixelTask:
    """The training task of this stage; see `loop.Task`."""

    def __init__(self, inputs: PixelInputs, context: StageContext) -> None:
        seed_everything(inputs.seed, "decoder")
        self._inputs, self._device = inputs, context.device
        image, device = inputs.image, context.device
        network = build_unet(image, inputs.network)
        network.load_state_dict(context.parent_weights, strict=False)
        head = PixelHead(network.decoder_channels(network.num_blocks))
        self._network = network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._head = head.to(device).train()
        self._map_size = network.geometry.level_size(network.num_blocks)
        cases = context.stage.data.cases
        frames = load_labelled(context.dataset, cases, size=image.size, norm=image.norm, device=device)
        self._planes = torch.cat([frames.input_N1HW, frames.known_N1HW, frames.truth_NKHW], dim=1)
        self._compared_NS = compared_views(inputs.pixel.batch, inputs.pixel.scope).to(device)
        self._rank_K = class_ranks(inputs.depths).to(device)
        self._num_classes = len(inputs.classes) + inputs.pixel.background

    def parameters(self) -> Iterable[nn.Parameter]:
        """Encoder, decoder and projection head; never the segmentation tail."""
        return [*self._network.encoder.parameters(), *self._network.decoder.parameters(), *self._head.parameters()]

    def state(self) -> dict[str, Tensor]:
        """Everything that moves: network and head with their buffers."""
        state = {f"network.{name}": tensor for name, tensor in self.pretrained_weights().items()}
        return state | {f"head.{name}": tensor for name, tensor in self._head.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put `state` back."""
        self._network.load_state_dict(below(state, "network."), strict=False)
        self._head.load_state_dict(below(state, "head."))

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Supervised contrast of pixels drawn by class from two views of a random batch of labelled frames."""
        pixel, num_classes = self._inputs.pixel, self._num_classes
        rng = step_rng(self._inputs.seed, "decoder", step)
        image_N1HW, label_NC = self._views(rng)
        score_NC = send(torch.from_numpy(rng.random(label_NC.shape, dtype=np.float32)), self._device)
        cell_NM, label_NM = draw_per_class(label_NC, score_NC, num_classes=num_classes, per_class=pixel.per_class)
        map_NHW = self._network.decode(self._network.encode(image_N1HW))
        features = map_NHW.flatten(2).transpose(1, 2)
        drawn = features.gather(1, cell_NM[..., None].expand(-1, -1, features.shape[-1]))
        embedding_NMD = self._head(drawn.flatten(0, 1)).unflatten(0, label_NM.shape)
        loss = pixel_supcon(
            embedding_NMD, label_NM, self._compared_NS, num_classes=num_classes, temperature=pixel.temperature
        )
        chance = pixel_supcon_chance(label_NM, self._compared_NS, num_classes=num_classes)
        over_chance = torch.where(chance > CHANCE_MIN, loss.detach() / chance.clamp(min=CHANCE_MIN), 1.0)
        return loss, {"loss_over_chance": over_chance} | describe_drawn(embedding_NMD, label_NM)

    def after_step(self, step: int) -> dict[str, float]:
        """Nothing beyond what `loss` measures."""
        return {}

    def pretrained_weights(self) -> dict[str, Tensor]:
        """Encoder and decoder under the names that the whole network has."""
        kept = ("encoder.", "decoder.")
        return {name: tensor for name, tensor in self._network.state_dict().items() if name.startswith(kept)}

    def close(self) -> None:
        """Nothing is read ahead."""

    def _views(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Two views of each frame of a batch (N, 1, H, W), first all first ones, and the classes of their cells."""
        batch, size = self._inputs.pixel.batch, self._inputs.image.size
        chosen = rng.choice(len(self._planes), batch, replace=len(self._planes) < batch)
        rows = send(torch.from_numpy(np.tile(chosen, 2)), self._device)
        theta = send(draw_affine(2 * batch, PRETRAIN_SPATIAL, rng), self._device)
        planes = warp(self._planes[rows], theta)
        draw = draw_intensity((2 * batch, size, size), PIXEL_INTENSITY, rng).to(self._device)
        image_N1HW = change_intensity(planes[:, :1], draw).contiguous(memory_format=torch.channels_last)
        label_NHW = innermost_class(
            planes[:, 2:], planes[:, 1:2], rank_K=self._rank_K, background=self._inputs.pixel.background
        )
        return image_N1HW, at_cells(label_NHW, self._map_size)


def describe_drawn(embedding_NMD: Tensor, label_NM: Tensor) -> dict[str, Tensor]:
    """Embedding figures of drawn pixels; a positive is another pixel of the same class."""
    chosen = evenly(label_NM.numel(), DESCRIBED_PIXELS, label_NM.device)
    label = label_NM.flatten().index_select(0, chosen)
    positive = (label[:, None] == label[None]) & (label >= 0) & (chosen[:, None] != chosen[None])
    return describe_embeddings(embedding_NMD.flatten(0, 1).index_select(0, chosen), positive)
