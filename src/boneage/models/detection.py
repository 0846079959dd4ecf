"""Faster R-CNN on grey radiographs: torchvision's, on VGG16 as paper 1 prints it or on a light backbone.

Source: paper 1, section II.A (VGG16 features, region proposals, pooled regions, fully connected layers).
"""

from __future__ import annotations

from boneage.models import operators  # mends torchvision before it is imported

# isort: split

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.vgg import cfgs, make_layers
from torchvision.ops import MultiScaleRoIAlign

from boneage.core.errors import ConfigError
from boneage.models.backbones import IMAGENET_MEAN, IMAGENET_STD, MobileNetV2Features, create_backbone

POOLED = 7
"""Cells a side of a pooled region, as in the original Faster R-CNN on VGG16."""


@dataclass(frozen=True)
class DetectorConfig:
    """A detector's shape.

    Args:
        backbone: `vgg16` (stride 16, as printed) or `mobilenet_v2_zoo` (stride 8).
        pretrained: `none`, `torchvision` (its own download; `vgg16`), or a safetensors file.
        anchors_px: sides of the anchors, pixels of the detector's input.
        ratios: heights of the anchors over their widths.
        head_width: of the two fully connected layers; the original's is 4096.
        proposals: regions that the first stage hands to the second.
        regions_per_image: of these, how many the second stage learns from.
    """

    backbone: str
    pretrained: str
    anchors_px: tuple[int, ...]
    ratios: tuple[float, ...]
    head_width: int
    proposals: int
    regions_per_image: int


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector found in one image.

    Args:
        boxes: (N, 4) float32, pixels of the input, best first.
        labels: (N,) int64 numbers of the classes, from 0.
        scores: (N,) float32 in [0, 1].
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


class _Vgg16(nn.Module):
    """VGG16 without its last pooling (stride 16, 512 channels)."""

    out_channels = 512

    def __init__(self, pretrained: str) -> None:
        super().__init__()
        self.features = make_layers(cfgs["D"])[:-1]
        for convolution in (each for each in self.features if isinstance(each, nn.Conv2d)):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        if pretrained == "torchvision":
            whole = vgg16(weights=VGG16_Weights.IMAGENET1K_V1)
            self.features.load_state_dict(whole.features.state_dict())
        elif pretrained != "none":
            _load_features(self.features, Path(pretrained))

    def forward(self, image: Tensor) -> Tensor:
        """Map standardised images (N, 3, H, W) to (N, 512, H / 16, W / 16)."""
        features: Tensor = self.features(image)
        return features


class _LightFeatures(nn.Module):
    """MobileNetV2's stride 16 widened and joined to its stride 8 (96 channels).

    Its batch norms keep pretrained statistics, where it has them: batches are small.
    """

    out_channels = 96

    def __init__(self, pretrained: str) -> None:
        super().__init__()
        body = create_backbone("mobilenet_v2_zoo", pretrained).body
        self.keeps_statistics = pretrained != "none"
        assert isinstance(body, MobileNetV2Features)  # what that name makes
        self.to8, self.to16 = body.features[:7], body.features[7:14]
        self.widen, self.join = nn.Conv2d(96, self.out_channels, 1), nn.Conv2d(32, self.out_channels, 1)
        self.smooth = nn.Conv2d(self.out_channels, self.out_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Map standardised images (N, 3, H, W) to (N, 96, H / 8, W / 8)."""
        fine = self.to8(image)
        coarse = nn.functional.interpolate(self.widen(self.to16(fine)), size=fine.shape[-2:])
        joined: Tensor = self.smooth(torch.relu(self.join(fine) + coarse))
        return joined

    def train(self, mode: bool = True) -> Self:
        """Set training mode; batch norms with pretrained statistics stay in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if self.keeps_statistics and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


_BACKBONES: dict[str, Any] = {"vgg16": _Vgg16, "mobilenet_v2_zoo": _LightFeatures}


class _GreyFeatures(nn.Module):
    """Repeats the grey channel and computes features, in bfloat16 where asked; returns float32.

    Only convolutions gain from short floats; box coordinates would lose whole pixels.
    """

    def __init__(self, body: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.out_channels = out_channels
        self.short_floats = False
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        standardised = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.short_floats):
            features: Tensor = self.body(standardised)
        return features.float()


class _AsTheyCome(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """Batches images in the size they come in; torchvision's own would enlarge them, if only to look."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return image and target as they are."""
        return image, target


class RegionNet(nn.Module):
    """Faster R-CNN for grey images (1, H, W) in [0, 1] of any size.

    Args:
        config: its shape.
        classes: how many kinds of regions there are.
    """

    def __init__(self, config: DetectorConfig, classes: int) -> None:
        super().__init__()
        if config.backbone not in _BACKBONES:
            known = ", ".join(_BACKBONES)
            raise ConfigError(f"unknown detector backbone {config.backbone!r}; give one of {known}")
        if config.pretrained == "torchvision" and config.backbone != "vgg16":
            raise ConfigError(f"torchvision has no weights for {config.backbone}; give a file or 'none'")
        operators.lend_operators()
        body = _BACKBONES[config.backbone](config.pretrained)
        self.detector = FasterRCNN(
            _GreyFeatures(body, body.out_channels),
            rpn_anchor_generator=AnchorGenerator((config.anchors_px,), (config.ratios,)),
            rpn_pre_nms_top_n_train=4 * config.proposals,
            rpn_pre_nms_top_n_test=4 * config.proposals,
            rpn_post_nms_top_n_train=config.proposals,
            rpn_post_nms_top_n_test=config.proposals,
            rpn_batch_size_per_image=128,
            box_roi_pool=MultiScaleRoIAlign(["0"], POOLED, 2),
            box_head=TwoMLPHead(body.out_channels * POOLED**2, config.head_width),
            box_predictor=FastRCNNPredictor(config.head_width, classes + 1),
            box_batch_size_per_image=config.regions_per_image,
            box_nms_thresh=0.3,  # neighbouring joints hardly overlap
            box_detections_per_img=60,
        )
        self.detector.transform = _AsTheyCome(1, 1, [0.0], [1.0])

    def compute_in_bfloat16(self, wanted: bool) -> None:
        """Compute features in bfloat16, or as they are stored."""
        self.detector.backbone.short_floats = wanted

    def losses(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Return the four losses of a batch; call it in training mode.

        Args:
            images: (1, H, W) each.
            boxes: (N, 4) each, pixels.
            labels: (N,) each, numbers of the classes from 0.
        """
        targets = [{"boxes": b, "labels": n + 1} for b, n in zip(boxes, labels, strict=True)]
        losses: dict[str, Tensor] = self.detector(list(images), targets)
        return losses

    @torch.no_grad()
    def forward(self, images: Sequence[Tensor]) -> list[Detections]:
        """Return what is found in images (1, H, W); call it in evaluation mode."""
        return [
            Detections(found["boxes"], found["labels"] - 1, found["scores"])
            for found in self.detector(list(images))
        ]


def _load_features(features: nn.Module, path: Path) -> None:
    """Load VGG16's convolutions from a safetensors file in torchvision's names."""
    if not path.is_file():
        raise ConfigError(f"pretrained weights not found: {path}; give a .safetensors file or 'none'")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ConfigError(f"{path.name} is no safetensors file ({error}); give another file") from error
    wanted = {name.removeprefix("features."): tensor.float() for name, tensor in state.items()}
    wanted = {name: tensor for name, tensor in wanted.items() if not name.startswith("classifier")}
    try:
        features.load_state_dict(wanted)
    except RuntimeError as error:
        raise ConfigError(f"{path.name} does not fit VGG16's features; give torchvision's vgg16") from error
