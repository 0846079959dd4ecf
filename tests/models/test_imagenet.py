"""MobileNetV2 with its 1000 outputs: which weights it takes and which it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

import boneage.models  # noqa: E402, F401  declares torchvision's operators before timm imports it

# isort: split

import timm  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

from boneage.core.errors import ConfigError  # noqa: E402
from boneage.models.imagenet import NAME, MobileNetOutputs  # noqa: E402


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The weights of a network that has learnt nothing."""
    torch.manual_seed(0)
    drawn: dict[str, Tensor] = timm.create_model(NAME, pad_type="same", bn_eps=1e-3).state_dict()
    return drawn


@pytest.fixture(scope="module")
def weights(state: Mapping[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "drawn.safetensors"
    save_file(dict(state), path)
    return path


@pytest.fixture(scope="module")
def net(weights: Path) -> MobileNetOutputs:
    return MobileNetOutputs(str(weights))


def images(count: int = 2, shape: tuple[int, int] = (103, 103)) -> Tensor:
    return torch.rand(count, 1, *shape, generator=torch.Generator().manual_seed(0))


def test_a_grey_image_of_any_size_has_1000_outputs(net: MobileNetOutputs) -> None:
    for shape in ((103, 103), (60, 90)):
        outputs = net(images(2, shape))
        assert outputs.shape == (2, 1000) and outputs.dtype == torch.float32
        assert torch.isfinite(outputs).all() and not outputs.requires_grad
        assert not torch.equal(outputs[0], outputs[1])


def test_outputs_are_an_images_own_and_the_same_every_time(net: MobileNetOutputs) -> None:
    both = net(images(2))
    torch.testing.assert_close(net(images(2)[1:]), both[1:], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net(images(2)), both)


def test_a_file_is_the_network_of_its_weights_with_inputs_from_minus_1_to_1(
    net: MobileNetOutputs, state: Mapping[str, Tensor]
) -> None:
    plain = timm.create_model(NAME, pad_type="same", bn_eps=1e-3)
    plain.load_state_dict(dict(state))
    plain.eval()
    image = images(1, (224, 224))
    with torch.no_grad():
        expected = plain((2 * image - 1).expand(-1, 3, -1, -1))
    torch.testing.assert_close(net(image), expected, rtol=1e-3, atol=1e-4)


def test_weights_in_half_precision_are_read_as_single(
    net: MobileNetOutputs, state: Mapping[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "half.safetensors"
    save_file({name: t.half() if t.is_floating_point() else t for name, t in state.items()}, path)
    found = MobileNetOutputs(str(path))
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    outputs, expected = found(images()).numpy(), net(images()).numpy()
    assert np.corrcoef(outputs.ravel(), expected.ravel())[0, 1] > 0.99


def test_timm_gives_its_own_weights_and_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    make = timm.create_model

    def without_download(name: str, pretrained: bool = False, **settings: Any) -> Any:
        asked.append({"name": name, "pretrained": pretrained, **settings})
        return make(name, **settings)

    monkeypatch.setattr(timm, "create_model", without_download)
    net = MobileNetOutputs("timm")
    assert asked == [{"name": NAME, "pretrained": True}]
    own = net.net.pretrained_cfg
    assert net.mean.flatten().tolist() == pytest.approx(own["mean"])
    assert net.std.flatten().tolist() == pytest.approx(own["std"])
    assert not net.training and net(images(1)).shape == (1, 1000)


def test_a_download_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"cannot be downloaded \(ConnectionError\): give a"):
        MobileNetOutputs("timm")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not found: .*none\.safetensors; give .* or 'timm'"):
        MobileNetOutputs(str(tmp_path / "none.safetensors"))


def test_a_file_that_is_none_of_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    path.write_text("no weights")
    with pytest.raises(ConfigError, match=r"text\.safetensors is no safetensors file .*give another"):
        MobileNetOutputs(str(path))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classifier.bias": None}, r"missing or misshapen \['classifier\.bias'\]"),
        ({"classifier.weight": (10, 1280)}, r"missing or misshapen \['classifier\.weight'\]"),
        ({"another.weight": (2, 2)}, r"missing or misshapen \[\], unexpected \['another\.weight'\]"),
    ],
    ids=["missing", "misshapen", "unexpected"],
)
def test_weights_of_another_network_are_refused(
    state: Mapping[str, Tensor], tmp_path: Path, change: dict[str, tuple[int, ...] | None], told: str
) -> None:
    changed = dict(state)
    for name, shape in change.items():
        changed.pop(name, None)
        if shape is not None:
            changed[name] = torch.zeros(shape)
    path = tmp_path / "other.safetensors"
    save_file(changed, path)
    with pytest.raises(ConfigError, match=rf"other\.safetensors does not fit {NAME} .*{told}"):
        MobileNetOutputs(str(path))
