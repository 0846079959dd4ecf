"""Paper 3's blocks: what splits and shuffles where, an identity at the start, every ResNet form."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from torch import Tensor, nn  # noqa: E402

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.models.attention import (  # noqa: E402
    AttentionResidualUnit,
    DoublePool,
    ShuffleAttention,
    add_attention,
)
from boneage.models.backbones import create_backbone  # noqa: E402

FORMS = ("resnet10t", "resnet18", "resnet50", "resnetv2_50_stages2", "test_resnet")


def randomised(module: nn.Module) -> nn.Module:
    """Give every parameter a value of its own, so that nothing is an identity by chance."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def by_hand(attention: ShuffleAttention, maps: Tensor) -> Tensor:
    """Shuffle attention channel by channel, as the paper describes it."""
    count, channels, _, _ = maps.shape
    size, half = channels // attention.groups, channels // attention.groups // 2
    attended = torch.empty_like(maps)
    for image in range(count):
        for group in range(attention.groups):
            for at in range(size):
                one = maps[image, group * size + at]
                if at < half:
                    number = one.mean()
                    scale = attention.channel_scale[0, at] * number + attention.channel_shift[0, at]
                else:
                    place = at - half
                    normed = (one - one.mean()) / (one.var(unbiased=False) + attention.norm.eps).sqrt()
                    normed = normed * attention.norm.weight[place] + attention.norm.bias[place]
                    scale = attention.spatial_scale[0, place] * normed + attention.spatial_shift[0, place]
                attended[image, group * size + at] = one * torch.sigmoid(scale)
    # The shuffle of two groups: channel i of the first half, channel i of the second, and so on.
    order = [part * channels // 2 + at for at in range(channels // 2) for part in (0, 1)]
    return attended[:, order]


@pytest.mark.parametrize(("channels", "groups"), [(16, 2), (32, 8), (12, 3), (4, 1)])
def test_shuffle_attention_is_what_the_paper_says_channel_by_channel(channels: int, groups: int) -> None:
    attention = randomised(ShuffleAttention(channels, groups))
    assert isinstance(attention, ShuffleAttention)
    maps = torch.rand(2, channels, 5, 3)
    torch.testing.assert_close(attention(maps), by_hand(attention, maps))


def test_attention_joins_the_groups() -> None:
    """After the shuffle a group holds channels of both halves: what the next attention mixes is new."""
    maps = torch.zeros(1, 8, 2, 2)
    maps[0, :4] = 1.0
    shuffled = ShuffleAttention(8, 2)(maps)[0].amax(dim=(1, 2)) > 0
    assert shuffled.tolist() == [True, False] * 4


@pytest.mark.parametrize(("channels", "groups"), [(8, 3), (20, 8), (6, 6)])
def test_channels_that_cannot_be_split_are_refused(channels: int, groups: int) -> None:
    with pytest.raises(ConfigError, match=f"cannot split {channels} channels into {groups} groups"):
        ShuffleAttention(channels, groups)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 1)])
def test_an_attention_unit_starts_as_its_unit_and_then_corrects_it(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    inner = nn.Conv2d(16, 32, 3, padding=1)
    unit = AttentionResidualUnit(inner, 32, groups=2).eval()
    maps = torch.randn(2, 16, *size)
    torch.testing.assert_close(unit(maps), inner(maps))
    randomised(unit.attend)
    corrected = unit(maps)
    assert corrected.shape == (2, 32, *size)
    ratio = corrected / inner(maps)
    assert ratio.min() >= 0 and ratio.max() <= 2  # twice a sigmoid
    assert not torch.allclose(corrected, inner(maps))


def test_all_of_an_attention_unit_learns_though_it_starts_closed() -> None:
    torch.manual_seed(0)
    unit = AttentionResidualUnit(nn.Conv2d(8, 16, 1), 16, groups=2)
    optimiser = torch.optim.SGD(unit.parameters(), lr=1.0)
    maps = torch.rand(4, 8, 6, 6)
    for _ in range(3):  # the path opens with the first step, its norm with the second
        optimiser.zero_grad()
        unit(maps).square().mean().backward()
        optimiser.step()
    silent = [
        name for name, weight in unit.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert silent == []


def test_double_pooling_sees_the_mean_and_the_maximum() -> None:
    pool = DoublePool(1, 2).eval()
    convolution = pool.narrow[0]
    assert isinstance(convolution, nn.Conv2d)
    with torch.no_grad():
        convolution.weight.copy_(torch.eye(2)[:, :, None, None])
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]])
    torch.testing.assert_close(pool(maps), torch.tensor([[2.0, 5.0]]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_resnet_takes_attention_and_starts_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(name, pooled=False).eval()
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        before = backbone(image)
        add_attention(backbone.body)
        added = [module for module in backbone.modules() if isinstance(module, AttentionResidualUnit)]
        assert len(added) == (2 if name.endswith("stages2") else 4)
        torch.testing.assert_close(backbone.eval()(image), before)
    assert before.shape[:2] == (2, backbone.channels)


def test_frozen_stages_take_no_attention_and_stay_frozen() -> None:
    backbone = create_backbone("resnetv2_50_stages2", pooled=False)
    backbone.freeze(1)
    add_attention(backbone.body, frozen_stages=1)
    backbone.train()
    held = [module for part in backbone.frozen for module in part.modules()]
    assert not any(isinstance(module, AttentionResidualUnit) or module.training for module in held)
    assert sum(isinstance(module, AttentionResidualUnit) for module in backbone.modules()) == 1


@pytest.mark.parametrize(("name", "frozen"), [("mobilenetv3_small_050", 0), ("resnetv2_50_stages2", 2)])
def test_a_network_without_a_free_stage_is_refused(name: str, frozen: int) -> None:
    with pytest.raises(ConfigError, match="needs a ResNet with a stage that is not frozen"):
        add_attention(create_backbone(name, pooled=False).body, frozen_stages=frozen)
