"""MobileNetV2 as it was trained on ImageNet, with its 1000 outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from boneage.core.errors import ConfigError

NAME = "mobilenetv2_100"
SIDE = 224


class MobileNetOutputs(nn.Module):
    """Maps grey images (N, 1, H, W) in [0, 1] to the 1000 outputs (N, 1000) before the softmax.

    Args:
        pretrained: `timm` (its own download), or a safetensors file with the weights of the same network
            as TensorFlow trained it (padding `same`, inputs from -1 to 1).

    Source: paper 1, section III.F (Sandler et al. 2018).

    Raises:
        ConfigError: no such file, or one that does not fit.
    """

    def __init__(self, pretrained: str) -> None:
        super().__init__()
        if pretrained == "timm":
            self.net: Any = _downloaded()
            trained: Any = self.net.pretrained_cfg
            mean, std = trained["mean"], trained["std"]
        else:
            self.net = timm.create_model(NAME, pad_type="same", bn_eps=1e-3)
            self.net.load_state_dict(_weights(Path(pretrained), self.net.state_dict()))
            mean = std = (0.5, 0.5, 0.5)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.eval()

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, H, W) to outputs (N, 1000); they are brought to 224 x 224 px."""
        resized = nn.functional.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        outputs: Tensor = self.net((resized - self.mean) / self.std)
        return outputs


def _downloaded() -> nn.Module:
    try:
        net: nn.Module = timm.create_model(NAME, pretrained=True)
    except Exception as error:
        raise ConfigError(
            f"{NAME}'s weights cannot be downloaded ({type(error).__name__}): give a "
            "safetensors file instead of 'timm'"
        ) from error
    return net


def _weights(file: Path, own: dict[str, Tensor]) -> dict[str, Tensor]:
    if not file.is_file():
        raise ConfigError(
            f"MobileNetV2's weights not found: {file}; give a .safetensors file, or 'timm' to download them"
        )
    try:
        state = {name: tensor.float() for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise ConfigError(f"{file.name} is no safetensors file ({error}); give another file") from error
    wrong = [name for name, tensor in own.items() if name not in state or state[name].shape != tensor.shape]
    strange = sorted(state.keys() - own.keys())
    if wrong or strange:
        raise ConfigError(
            f"{file.name} does not fit {NAME} with its 1000 outputs: missing or misshapen {wrong[:3]}, "
            f"unexpected {strange[:3]}"
        )
    return state
