"""PixPro in either pretraining stage: pixels of two crops agree, without negatives (Xie et al. 2021).

In the encoder stage the map is the bottleneck's, in the decoder stage that of `decoder.level`, the encoder frozen. A
momentum branch, a slow copy of what is trained and of its projection, gives the targets. Adam replaces LARS.
"""
# N views, C cells of a map, D embedding

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from uscl.data.augment import cell_diagonals, cell_places
from uscl.data.pairs import LocalPairs, local_pairs
from uscl.losses.dense import pixel_consistency, propagate
from uscl.metrics.embedding import embedding_std, uniformity
from uscl.models.heads import EMBEDDING_SIZE
from uscl.models.pixel_heads import PixproHead
from uscl.models.unet import UNet
from uscl.stages.context import StageContext, seed_everything
from uscl.stages.inputs import DecoderInputs, EncoderInputs
from uscl.stages.loop import below
from uscl.stages.pretraining import build_unet, evenly
from uscl.stages.views import ViewLoader, Views, pair_settings

DESCRIBED_PIXELS = 512
"""Of a batch, evenly spread: spread and uniformity need no more."""
DESCRIBED_PAIRS = 8


class PixproTask:
    """The training task of the encoder or decoder stage under `contrast.loss: pixpro`; see `loop.Task`."""

    def __init__(self, inputs: EncoderInputs | DecoderInputs, context: StageContext) -> None:
        kind = context.stage.kind
        seed_everything(inputs.seed, kind)
        self._inputs, self._device = inputs, context.device
        self._level = inputs.decoder.level if isinstance(inputs, DecoderInputs) else 0
        self._steps = inputs.decoder.steps if isinstance(inputs, DecoderInputs) else inputs.encoder.steps
        network = build_unet(inputs.image, inputs.network)
        network.load_state_dict(context.parent_weights, strict=False)
        channels = network.decoder_channels(self._level) if self._level else network.bottleneck_channels
        transform = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE, bias=False)
        heads = nn.ModuleDict({"project": PixproHead(channels), "transform": transform})
        self._network = network.to(context.device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._heads = heads.to(context.device).train()
        self._trunk = _trunk(self._network, self._level)
        followed = nn.ModuleDict({"trunk": self._trunk, "project": heads["project"]})
        self._fast = list(followed.parameters())
        self._slow = deepcopy(followed).requires_grad_(False)
        self._views = ViewLoader(context, kind=kind, spatial=True)

    def parameters(self) -> Iterable[nn.Parameter]:
        """The encoder, or the trained decoder blocks; the projection and the propagation's transform."""
        return [*self._fast, *self._heads["transform"].parameters()]

    def state(self) -> dict[str, Tensor]:
        """Everything that moves: what is handed on, the heads, and the momentum branch with its buffers."""
        state = {f"network.{name}": tensor for name, tensor in self.pretrained_weights().items()}
        state |= {f"heads.{name}": tensor for name, tensor in self._heads.state_dict().items()}
        return state | {f"slow.{name}": tensor for name, tensor in self._slow.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put `state` back."""
        self._network.load_state_dict(below(state, "network."), strict=False)
        self._heads.load_state_dict(below(state, "heads."))
        self._slow.load_state_dict(below(state, "slow."))

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Consistency of propagated pixels and the momentum branch's, over every pair of views that overlaps."""
        contrast = self._inputs.contrast
        assert contrast.momentum is not None and contrast.pixpro_power is not None
        momentum = momentum_at(step, self._steps, start=contrast.momentum)
        follow(self._slow.parameters(), self._fast, momentum=momentum)
        views = self._views.views(step)
        pairs = local_pairs(
            views.clip_N,
            views.position_N,
            **pair_settings(self._inputs.pairs, views),  # type: ignore[arg-type]
        ).to(self._device)
        arguments = self._arguments(views.image_N1HW)
        embedding_NCD = self._heads["project"](self._trunk(*arguments)[-1])
        query_NCD = propagate(embedding_NCD, self._heads["transform"](embedding_NCD), power=contrast.pixpro_power)
        with torch.no_grad():
            key_NCD = self._slow["project"](self._slow["trunk"](*arguments)[-1])
        loss = self._consistency(query_NCD, key_NCD, views, pairs)
        measured = {"alignment": self._alignment(embedding_NCD.detach(), views, pairs)}
        return loss, measured | describe_pixels(embedding_NCD)

    def after_step(self, step: int) -> dict[str, float]:
        """Nothing beyond what `loss` measures."""
        return {}

    def pretrained_weights(self) -> dict[str, Tensor]:
        """The encoder, and in the decoder stage the trained blocks, under the names that the whole network has."""
        kept = ("encoder.", "decoder.") if self._level else ("encoder.",)
        return {name: tensor for name, tensor in self._network.state_dict().items() if name.startswith(kept)}

    def close(self) -> None:
        """Stop reading ahead."""
        self._views.close()

    def _arguments(self, image_N1HW: Tensor) -> tuple[Any, ...]:
        """What the trunk is called with: the views, or the frozen encoder's features of them and the level."""
        if not self._level:
            return (image_N1HW,)
        with torch.no_grad():  # batch norm stays in training mode, as in the decoder stage of the other losses
            return (self._network.encode(image_N1HW), self._level)

    @torch.no_grad()
    def _alignment(self, embedding_NCD: Tensor, views: Views, pairs: LocalPairs) -> Tensor:
        """Mean squared distance, 2 - 2 cosine, of positive pixels before propagation, of a few pairs of views."""
        few = evenly(len(pairs.first_P), DESCRIBED_PAIRS, self._device)
        first_P, second_P, near_P = (part[few] for part in (pairs.first_P, pairs.second_P, pairs.near_P))
        chosen = LocalPairs(first_P, second_P, near_P, pairs.negative_NN)
        return 2 + self._consistency(embedding_NCD, embedding_NCD, views, chosen)

    def _consistency(self, query_NCD: Tensor, key_NCD: Tensor, views: Views, pairs: LocalPairs) -> Tensor:
        distance, theta_N23 = self._inputs.contrast.pixpro_distance, views.theta_N23
        assert distance is not None and theta_N23 is not None
        map_size = math.isqrt(query_NCD.shape[1])
        return pixel_consistency(
            query_NCD,
            key_NCD,
            cell_places(theta_N23, map_size),
            diagonal_N=cell_diagonals(theta_N23, map_size),
            distance=distance,
            pairs=pairs,
        )


def momentum_at(step: int, steps: int, *, start: float) -> float:
    """Momentum of a step (from 0): `start` at first, rising to 1 as a half cosine. Xie et al. 2021."""
    return 1.0 - (1.0 - start) * (1.0 + math.cos(math.pi * step / steps)) / 2.0


@torch.no_grad()
def follow(slow: Iterable[nn.Parameter], fast: Iterable[nn.Parameter], *, momentum: float) -> None:
    """Move each slow weight to momentum x itself + (1 - momentum) x the fast one, in place."""
    for behind, ahead in zip(slow, fast, strict=True):
        behind.lerp_(ahead, 1.0 - momentum)


def describe_pixels(embedding_NCD: Tensor) -> dict[str, Tensor]:
    """Spread and uniformity of pixels evenly taken from all views, detached."""
    flat = embedding_NCD.detach().flatten(0, 1)
    chosen = flat.index_select(0, evenly(len(flat), DESCRIBED_PIXELS, flat.device)).float()
    with torch.autocast(chosen.device.type, enabled=False):
        return {"embedding_std": embedding_std(chosen), "uniformity": uniformity(chosen)}


def _trunk(network: UNet, level: int) -> nn.Module:
    """What is trained: the encoder (level 0), or the decoder's first blocks, the encoder frozen, later blocks cut."""
    if not level:
        return network.encoder
    network.encoder.requires_grad_(False)
    network.decoder.blocks = network.decoder.blocks[:level]
    return network.decoder
