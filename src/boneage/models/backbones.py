"""Image backbones: (N, 1, H, W) radiographs in [0, 1] to features (N, channels), or maps of them.

Any timm name works. Names of our own load pretrained files that are not in timm's form, or are paper 5's
customised network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from boneage.core.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Repeats the grey channel, standardises as the pretrained network expects, pools its features.

    Modules named by `freeze` keep their weights and their batch-norm statistics in training.
    """

    frozen: tuple[nn.Module, ...] = ()

    def __init__(
        self, body: nn.Module, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.body = body
        self.channels = channels
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, 1, H, W) in [0, 1] to features (N, channels), or maps (N, channels, h, w)."""
        standardised = (image - self.mean) / self.std
        features: Tensor = self.body(standardised.contiguous(memory_format=torch.channels_last))
        return features

    def freeze(self, stages: int) -> None:
        """Freeze the stem and the first `stages` stages; 0 freezes nothing.

        Raises:
            ConfigError: the network is not built of a stem and stages.
        """
        if stages == 0:
            return
        stem, blocks = getattr(self.body, "stem", None), getattr(self.body, "stages", None)
        if not isinstance(stem, nn.Module) or not isinstance(blocks, nn.Module):
            raise ConfigError("network.frozen_stages needs a backbone of a stem and stages; set it to 0")
        self.frozen = (stem, *list(blocks.children())[:stages])
        for module in self.frozen:
            module.requires_grad_(False)
            module.eval()

    def train(self, mode: bool = True) -> Self:
        """Set training mode for everything that is not frozen."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self


def _pool(channels: int, *, activate: bool, pooled: bool = True) -> list[nn.Module]:
    norm: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU()] if activate else []
    return [*norm, nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else norm


class _ResNetV2Stages(nn.Module):
    """ResNetV2-50 cut after some of its stages (two: stride 8, 512 channels; three: stride 16, 1024)."""

    def __init__(self, count: int, *, pooled: bool) -> None:
        super().__init__()
        whole: Any = timm.create_model("resnetv2_50", num_classes=0)
        self.stem = nn.Sequential(
            nn.BatchNorm2d(3), whole.stem.conv, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.stages = whole.stages[:count]
        self.pool = nn.Sequential(*_pool(128 * 2**count, activate=True, pooled=pooled))

    def forward(self, image: Tensor) -> Tensor:
        """Map standardised images (N, 3, H, W) to pooled features, or to maps."""
        features: Tensor = self.pool(self.stages(self.stem(image)))
        return features


class MobileNetV2Features(nn.Module):
    """MobileNetV2 with the extra 1x1 stem block of the ONNX model zoo's file; no head."""

    def __init__(self, *, pooled: bool = True) -> None:
        super().__init__()
        from torchvision.models import mobilenet_v2
        from torchvision.ops import Conv2dNormActivation

        features = mobilenet_v2(weights=None).features
        extra = Conv2dNormActivation(32, 32, kernel_size=1, activation_layer=nn.ReLU6)
        features[0] = nn.Sequential(features[0], extra)
        self.features = features
        self.pool = nn.Sequential(*_pool(1280, activate=False, pooled=pooled))

    def forward(self, image: Tensor) -> Tensor:
        """Map standardised images (N, 3, H, W) to pooled features."""
        pooled: Tensor = self.pool(self.features(image))
        return pooled


class CustomCNN(nn.Module):
    """Paper 5's customised network: convolution, batch normalisation, activation and pooling, four times.

    Source: paper 5, section V, "CNN" and "Activation function" (ReLU, or ELU); it prints neither depth nor
    widths: 32, 64, 128 and 256 channels of 3 x 3 are ours, as are the dropout of whole channels between
    the blocks and the global pooling before the fully connected layer.
    """

    def __init__(self, activation: type[nn.Module] = nn.ReLU, *, pooled: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for entering, leaving in pairwise((3, 32, 64, 128, 256)):
            layers += [
                nn.Conv2d(entering, leaving, 3, padding=1, bias=False),
                nn.BatchNorm2d(leaving),
                activation(),
                nn.MaxPool2d(2),
                nn.Dropout2d(0.1),
            ]
        self.layers = nn.Sequential(*layers, *_pool(256, activate=False, pooled=pooled))

    def forward(self, image: Tensor) -> Tensor:
        """Map standardised images (N, 3, H, W) to pooled features, or to maps."""
        features: Tensor = self.layers(image)
        return features


_OWN_FORMS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "resnetv2_50_stages2": (partial(_ResNetV2Stages, 2), 512),
    "resnetv2_50_stages3": (partial(_ResNetV2Stages, 3), 1024),
    "mobilenet_v2_zoo": (MobileNetV2Features, 1280),
    "custom_cnn": (CustomCNN, 256),
    "custom_cnn_elu": (partial(CustomCNN, nn.ELU), 256),
}


def _load(module: nn.Module, path: str) -> None:
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"pretrained weights not found: {path}; give a .safetensors file, 'timm' or 'none'")
    try:
        state = {name: tensor.float() for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise ConfigError(f"{file.name} is no safetensors file ({error}); give another file") from error
    own = {name: tensor.shape for name, tensor in module.state_dict().items()}
    kept = len(getattr(module, "stages", ()))
    cut = tuple(f"stages.{stage}." for stage in range(kept, 4))  # a network that ends early leaves the rest
    misshapen = [name for name, tensor in state.items() if own.get(name, tensor.shape) != tensor.shape]
    if misshapen:
        raise ConfigError(f"{file.name} does not fit the backbone: other shapes of {misshapen[:3]}")
    missing, unexpected = module.load_state_dict(state, strict=False)
    excess = [key for key in unexpected if not key.startswith(("classifier", "fc", "head", *cut))]
    absent = [key for key in missing if not key.startswith("pool")]
    if excess or absent:
        raise ConfigError(
            f"{file.name} does not fit the backbone: missing {absent[:3]}, unexpected {excess[:3]}"
        )


def create_backbone(name: str, pretrained: str = "none", *, pooled: bool = True) -> Backbone:
    """Return a backbone by name.

    Args:
        name: a timm name, or one of our own: `resnetv2_50_stages2`, `resnetv2_50_stages3`,
            `mobilenet_v2_zoo`, `custom_cnn`, `custom_cnn_elu`.
        pretrained: `none`, `timm` (its own download) or the path of a safetensors file.
        pooled: features (N, channels), or else the maps (N, channels, H, W) that they are pooled from.

    Raises:
        ConfigError: unknown name, or a file that does not fit.
    """
    if name in _OWN_FORMS:
        build, channels = _OWN_FORMS[name]
        body = build(pooled=pooled)
        if pretrained == "timm":
            raise ConfigError(f"{name} has no timm weights; give a file or 'none'")
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    else:
        if not timm.is_model(name):
            known = ", ".join(_OWN_FORMS)
            raise ConfigError(f"unknown backbone {name!r}; give a timm name or one of {known}")
        pool: dict[str, Any] = {} if pooled else {"global_pool": ""}
        whole: Any = timm.create_model(name, pretrained=pretrained == "timm", num_classes=0, **pool)
        body = whole
        channels = int(getattr(whole, "head_hidden_size", None) or whole.num_features)
        mean, std = (
            whole.pretrained_cfg.get("mean", IMAGENET_MEAN),
            whole.pretrained_cfg.get("std", IMAGENET_STD),
        )
    if pretrained not in ("none", "timm"):
        _load(body, pretrained)
    return Backbone(body, channels, tuple(mean), tuple(std))
