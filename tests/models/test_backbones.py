"""Backbones: pooled features of any image size, frozen parts that stay as they were, weights that fit."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.models.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone, create_backbone  # noqa: E402

NAMES = {
    "mobilenetv3_small_050": 1024,
    "resnetv2_50_stages3": 1024,
    "mobilenet_v2_zoo": 1280,
    "test_resnet": 96,
}


class Staged(nn.Module):
    """A stem and two stages, each with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4))
        self.stages = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)) for _ in range(2)))

    def forward(self, image: Tensor) -> Tensor:
        pooled: Tensor = self.stages(self.stem(image)).mean(dim=(2, 3))
        return pooled


def staged() -> Backbone:
    torch.manual_seed(0)
    return Backbone(Staged(), 4, IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize(("name", "channels"), NAMES.items())
def test_features_are_pooled_and_every_weight_learns(name: str, channels: int) -> None:
    backbone = create_backbone(name)
    assert backbone.channels == channels
    features = backbone(torch.rand(2, 1, 96, 64))
    assert features.shape == (2, channels)
    features.square().sum().backward()
    without = [key for key, weight in backbone.named_parameters() if weight.grad is None]
    assert not without


def test_grey_is_repeated_and_standardised_as_the_pretrained_network_expects() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.4)
    backbone = Backbone(nn.Flatten(), 3 * 4, mean, std)
    got = backbone(torch.full((1, 1, 2, 2), 0.7)).view(3, 4)
    expected = torch.tensor([(0.7 - m) / s for m, s in zip(mean, std, strict=True)])
    torch.testing.assert_close(got, expected[:, None].expand(3, 4))


def test_the_standardisation_is_no_part_of_the_saved_state() -> None:
    assert not {"mean", "std"} & staged().state_dict().keys()


@pytest.mark.parametrize("stages", [1, 2])
def test_frozen_stages_keep_weights_and_batch_norm_statistics(stages: int) -> None:
    backbone = staged()
    backbone.freeze(stages)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    optimiser = torch.optim.SGD(
        [p for p in backbone.parameters() if p.requires_grad] or [torch.zeros(1)], 0.1
    )
    for _ in range(3):
        loss = backbone(torch.rand(4, 1, 16, 16)).square().sum()
        if stages < 2:
            loss.backward()
        optimiser.step()
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    free = tuple(f"body.stages.{index}." for index in range(stages, 2))
    assert all(key.startswith(free) for key in changed) if free else not changed
    if free:
        assert any("running_mean" in key for key in changed) and any("0.weight" in key for key in changed)


def test_freezing_nothing_lets_everything_learn() -> None:
    backbone = staged()
    backbone.freeze(0)
    assert all(weight.requires_grad for weight in backbone.parameters()) and backbone.frozen == ()


def test_training_mode_inside_another_module_leaves_the_frozen_in_eval() -> None:
    backbone = staged()
    backbone.freeze(1)
    whole = nn.Sequential(backbone).train()
    assert whole.training and backbone.body.stages[1].training
    assert not backbone.body.stem.training and not backbone.body.stages[0].training
    whole.eval()
    assert not backbone.body.stages[1].training


def test_the_shipped_backbone_can_be_frozen_and_others_say_why_not() -> None:
    backbone = create_backbone("resnetv2_50_stages3")
    backbone.freeze(1)
    frozen = [key for key, weight in backbone.named_parameters() if not weight.requires_grad]
    assert frozen and all(key.startswith(("body.stem.", "body.stages.0.")) for key in frozen)
    with pytest.raises(ConfigError, match="stem and stages; set it to 0"):
        create_backbone("mobilenetv3_small_050").freeze(1)


def test_an_unknown_name_is_named_with_our_own() -> None:
    with pytest.raises(ConfigError, match=r"'resnot_50'.*resnetv2_50_stages3, mobilenet_v2_zoo"):
        create_backbone("resnot_50")


def test_our_own_forms_have_no_weights_to_download() -> None:
    with pytest.raises(ConfigError, match="no timm weights"):
        create_backbone("mobilenet_v2_zoo", "timm")


def saved(path: Path, change: dict[str, Tensor] | None = None, leave_out: str = "") -> Path:
    """Write the weights of a small backbone, some of them changed or left out."""
    state = create_backbone("test_resnet").body.state_dict() | (change or {})
    save_file(
        {key: value for key, value in state.items() if not leave_out or not key.startswith(leave_out)}, path
    )
    return path


def test_weights_are_loaded_from_a_file_half_precision_and_head_or_not(tmp_path: Path) -> None:
    torch.manual_seed(1)
    body = create_backbone("test_resnet").body
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in body.state_dict().items()
    }
    save_file(half | {"fc.weight": torch.zeros(10, 96)}, tmp_path / "w.safetensors")
    loaded = create_backbone("test_resnet", str(tmp_path / "w.safetensors")).body.state_dict()
    for key, value in body.state_dict().items():
        torch.testing.assert_close(loaded[key], value, rtol=1e-3, atol=1e-5)
        assert loaded[key].dtype == value.dtype


@pytest.mark.parametrize(
    ("change", "leave_out", "named"),
    [
        ({"extra.weight": torch.zeros(3)}, "", "unexpected .'extra.weight'"),
        ({}, "layer4", "missing .'layer4"),
        ({"conv1.0.weight": torch.zeros(1, 2)}, "", "other shapes of .'conv1.0.weight'|unexpected"),
    ],
    ids=["excess", "absent", "misshapen"],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, change: dict[str, Tensor], leave_out: str, named: str
) -> None:
    path = saved(tmp_path / "bad.safetensors", change, leave_out)
    with pytest.raises(ConfigError, match=rf"bad\.safetensors does not fit the backbone.*({named})"):
        create_backbone("test_resnet", str(path))


def test_a_file_that_is_absent_or_no_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not found: .*absent\.safetensors"):
        create_backbone("test_resnet", str(tmp_path / "absent.safetensors"))
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ConfigError, match=r"text\.safetensors is no safetensors file"):
        create_backbone("test_resnet", str(tmp_path / "text.safetensors"))
