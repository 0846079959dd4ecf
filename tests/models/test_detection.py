"""The detector learns its boxes; the operators lent to torchvision compute what its own do."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.models import detection, operators  # noqa: E402
from boneage.models.detection import DetectorConfig, RegionNet  # noqa: E402

LIGHT = DetectorConfig("mobilenet_v2_zoo", "none", (16, 40), (1.0,), 32, 30, 16)


def test_suppression_keeps_the_best_of_what_overlaps() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [5, 0, 15, 10]]).float()
    scores = torch.tensor([0.8, 0.9, 0.1, 0.7])
    # Overlaps with the second, which is the best: 9/11 = 0.82 of the first, 6/14 = 0.43 of the last.
    assert operators.nms(boxes, scores, 0.5).tolist() == [1, 3, 2]
    assert operators.nms(boxes, scores, 0.4).tolist() == [1, 2]
    assert operators.nms(boxes, scores, 0.9).tolist() == [1, 0, 3, 2]
    assert operators.nms(boxes[:0], scores[:0], 0.5).shape == (0,)


def test_an_overlap_of_just_the_threshold_is_kept() -> None:
    boxes = torch.tensor([[0, 0, 2, 1], [1, 0, 3, 1]]).float()  # overlap 1/3
    scores = torch.tensor([0.5, 0.4])
    assert operators.nms(boxes, scores, 1 / 3).tolist() == [0, 1]
    assert operators.nms(boxes, scores, 0.33).tolist() == [0]


def test_aligned_regions_of_a_slope_are_its_values_at_the_cells_centres() -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(10.0), indexing="ij")
    slope = (10 * y + x)[None, None]
    region = torch.tensor([[0, 2.0, 4.0, 10.0, 8.0]])  # half as many cells: x 1 to 5, y 2 to 4
    pooled = operators.roi_align(slope, region, 0.5, 2, 2, 2, aligned=False)
    # Corners at whole coordinates: cells 2 wide and 1 high, centres at x 2, 4 and y 2.5, 3.5.
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[27.0, 29.0], [37.0, 39.0]]))
    pooled = operators.roi_align(slope, region, 0.5, 2, 2, 2, aligned=True)
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[21.5, 23.5], [31.5, 33.5]]))


def test_what_lies_beyond_the_map_is_empty() -> None:
    ones = torch.ones(1, 1, 4, 4)
    outside = torch.tensor([[0, 6.0, 6.0, 10.0, 10.0]])
    assert not operators.roi_align(ones, outside, 1.0, 2, 2, 1, aligned=False).any()
    across = torch.tensor([[0, 2.0, 0.0, 8.0, 4.0]])
    assert operators.roi_align(ones, across, 1.0, 1, 2, 1, aligned=False)[0, 0].tolist() == [[1.0, 0.0]]


def test_each_region_is_taken_from_its_own_image() -> None:
    maps = torch.stack([torch.full((2, 5, 5), value) for value in (1.0, 2.0, 3.0)])
    regions = torch.tensor([[2, 0, 0, 4, 4], [0, 1, 1, 3, 3], [2, 1, 1, 2, 2]]).float()
    pooled = operators.roi_align(maps, regions, 1.0, 1, 1, 2, aligned=False)
    assert pooled[:, :, 0, 0].tolist() == [[3, 3], [1, 1], [3, 3]]


def test_gradients_of_pooled_regions_are_right() -> None:
    maps = torch.rand(2, 2, 5, 6, dtype=torch.double, requires_grad=True)
    regions = torch.tensor([[0, 0.3, 1.1, 4.2, 3.7], [1, -1.0, 2.0, 9.0, 9.0]], dtype=torch.double)

    def pooled(inputs: Tensor) -> Tensor:
        return operators.roi_align(inputs, regions, 0.9, 2, 2, 2, aligned=False)

    assert torch.autograd.gradcheck(pooled, (maps,))


def test_a_number_of_points_that_depends_on_size_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="sampling_ratio"):
        operators.roi_align(torch.ones(1, 1, 2, 2), torch.zeros(1, 5), 1.0, 2, 2, 0, aligned=False)


def test_torchvision_computes_the_same_inside_the_map() -> None:
    """Its own version in Python, or its binary where that loads, for regions that end in the map."""
    operators.lend_operators()
    from torchvision.ops import batched_nms

    if operators._declared is not None:
        theirs = vars(sys.modules["torchvision.ops.roi_align"])["_roi_align"].__wrapped__  # not compiled
    else:
        theirs = torch.ops.torchvision.roi_align
    maps = torch.rand(2, 3, 9, 12)
    regions = torch.tensor([[0, 3.0, 5.0, 60.0, 50.0], [1, 60.0, 40.0, 95.0, 71.0], [0, 5.0, 5.0, 6.0, 6.0]])
    for aligned in (False, True):
        expected = theirs(maps, regions, 1 / 8, 7, 7, 2, aligned)
        assert torch.allclose(
            operators.roi_align(maps, regions, 1 / 8, 7, 7, 2, aligned), expected, atol=1e-5
        )
    same = torch.tensor([[0.0, 0.0, 9.0, 9.0]] * 3)
    kept = batched_nms(same, torch.tensor([0.1, 0.3, 0.2]), torch.tensor([0, 0, 1]), 0.5)
    assert kept.tolist() == [1, 2]  # one of each class


def squares() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Two images, each with a bright square (class 0) and a dark one (class 1) in other places."""
    images, boxes = [], []
    for shift in (0, 24):
        image = torch.full((1, 96, 80), 0.5)
        bright, dark = (8 + shift, 12, 32 + shift, 36), (40 - shift, 56, 64 - shift, 80)
        for (x0, y0, x1, y1), grey in ((bright, 1.0), (dark, 0.0)):
            image[:, y0:y1, x0:x1] = grey
        images.append(image)
        boxes.append(torch.tensor([bright, dark]).float())
    return images, boxes, [torch.tensor([0, 1])] * 2


class FourConvolutions(torch.nn.Module):
    """A body that learns squares in a second."""

    out_channels = 24

    def __init__(self, _: str) -> None:
        super().__init__()
        widths = ((3, 16, 2), (16, 24, 2), (24, 24, 2), (24, 24, 1))
        layers = [torch.nn.Conv2d(a, b, 3, stride, 1) for a, b, stride in widths]
        self.layers = torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.ReLU())))

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image)
        return features


def test_it_overfits_two_images_and_finds_their_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detection._BACKBONES, "small", FourConvolutions)
    torch.manual_seed(0)
    net = RegionNet(DetectorConfig("small", "none", (24,), (1.0,), 32, 20, 16), 2).train()
    images, boxes, labels = squares()
    steps = 160  # with a rate that falls, so that no last step decides
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, steps)
    for _ in range(steps):
        losses = net.losses(images, boxes, labels)
        assert len(losses) == 4
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        rate.step()
    for found, wanted in zip(net.eval()(images), boxes, strict=True):
        for label in (0, 1):
            of_class = found.labels == label
            assert (found.boxes[of_class][0] - wanted[label]).abs().max() < 6  # of 24
            assert found.scores[of_class][0] > 0.5


def test_pretrained_batch_norms_keep_their_statistics(tmp_path: Path) -> None:
    from boneage.models.backbones import MobileNetV2Features

    file = tmp_path / "features.safetensors"
    save_file(MobileNetV2Features().state_dict(), file)
    for pretrained, kept in (("none", False), (str(file), True)):
        net = RegionNet(replace(LIGHT, pretrained=pretrained), 7).train()
        norms = [each for each in net.modules() if isinstance(each, torch.nn.BatchNorm2d)]
        before = norms[0].running_mean.clone()
        net.losses([torch.rand(1, 64, 64)], [torch.tensor([[8.0, 8.0, 30.0, 30.0]])], [torch.tensor([3])])
        assert torch.equal(norms[0].running_mean, before) is kept


def test_an_image_without_a_box_can_be_learnt_from() -> None:
    net = RegionNet(LIGHT, 7).train()
    losses = net.losses([torch.rand(1, 64, 64)], [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)])
    assert all(torch.isfinite(value) for value in losses.values())


def test_vgg16_has_the_printed_form_and_reads_its_own_weights(tmp_path: Path) -> None:
    from torchvision.models.vgg import cfgs, make_layers

    features = make_layers(cfgs["D"])
    file = tmp_path / "vgg16.safetensors"
    save_file({f"features.{name}": value for name, value in features.state_dict().items()}, file)
    config = DetectorConfig("vgg16", str(file), (16, 32), (1.0,), 32, 10, 8)
    net = RegionNet(config, 7).eval()
    state = net.state_dict()
    assert torch.equal(state["detector.backbone.body.features.0.weight"], features[0].weight)
    assert sum(value.ndim == 4 for name, value in state.items() if "backbone" in name) == 13
    assert net([torch.rand(1, 64, 48)])[0].boxes.shape[1:] == (4,)


@pytest.mark.parametrize(
    ("backbone", "pretrained", "message"),
    [
        ("resnet9000", "none", "unknown detector backbone 'resnet9000'; give one of vgg16, mobilenet_v2_zoo"),
        ("mobilenet_v2_zoo", "torchvision", "torchvision has no weights for mobilenet_v2_zoo"),
        ("mobilenet_v2_zoo", "absent.safetensors", r"not found: absent\.safetensors"),
        ("vgg16", "absent.safetensors", r"not found: absent\.safetensors"),
    ],
)
def test_what_cannot_be_built_is_said(backbone: str, pretrained: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RegionNet(DetectorConfig(backbone, pretrained, (16,), (1.0,), 32, 10, 8), 7)


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(3)}, file)
    with pytest.raises(ConfigError, match=r"other\.safetensors does not fit VGG16"):
        RegionNet(DetectorConfig("vgg16", str(file), (16,), (1.0,), 32, 10, 8), 7)
    file.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no safetensors file"):
        RegionNet(DetectorConfig("vgg16", str(file), (16,), (1.0,), 32, 10, 8), 7)
