"""What kernels of 30 x 30 cost, form by form, and how long the auto-encoders of all regions take to learn.

Times are of one thread, forward and backward; what counts is the ratio to the convolution as it stands.

    python benchmarks/region_clusters.py --hands 1000 --epochs 30
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable

import boneage.models  # noqa: F401  declares torchvision's operators before lightning imports it

# isort: split

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from boneage.models.region_autoencoder import Layer, SameConv2d
from boneage.recipes.region_clusters.config import InputConfig, NetworkConfig, ScheduleConfig
from boneage.recipes.region_clusters.crops import REGIONS
from boneage.recipes.region_clusters.learn import fit_encoder

BATCH, SIDE, KERNEL = 32, 64, 30


def direct(layer: SameConv2d, images: Tensor) -> Tensor:
    """Return the convolution as it stands."""
    margin = (KERNEL - layer.stride) / 2
    around = (int(margin), int(margin + 0.5))
    return functional.conv2d(functional.pad(images, around * 2), layer.weight, layer.bias, layer.stride)


def by_fourier(layer: SameConv2d, images: Tensor) -> Tensor:
    """Return the convolution by Fourier transforms, of which a stride keeps every s-th pixel."""
    margin = (KERNEL - layer.stride) // 2
    size = SIDE + KERNEL
    spectrum = torch.fft.rfft2(functional.pad(images, (margin,) * 4), s=(size, size))
    kernels = torch.fft.rfft2(layer.weight, s=(size, size)).conj()
    whole = torch.fft.irfft2(torch.einsum("nchw,kchw->nkhw", spectrum, kernels), s=(size, size))
    return whole[..., : SIDE : layer.stride, : SIDE : layer.stride] + layer.bias[:, None, None]


def milliseconds(form: Callable[[SameConv2d, Tensor], Tensor], layer: SameConv2d, images: Tensor) -> float:
    """Return the least time of some runs, forward and backward, by image."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        form(layer, images).sum().backward()
        times.append(time.perf_counter() - start)
    return 1000 * min(times) / BATCH


def compare_forms() -> None:
    """Print the three forms' times for convolutions of several channels and strides."""
    print("channels  stride  direct ms  Fourier ms  phases ms  phases / direct")
    for entering, leaving, stride in ((1, 8, 1), (1, 16, 2), (1, 16, 4), (4, 8, 2), (4, 8, 4)):
        layer = SameConv2d(entering, Layer(KERNEL, leaving, stride))
        images = torch.randn(BATCH, entering, SIDE, SIDE, requires_grad=True)
        forms: tuple[Callable[[SameConv2d, Tensor], Tensor], ...] = (
            direct,
            by_fourier,
            lambda own, given: own(given),
        )
        times = [milliseconds(form, layer, images) for form in forms]
        told = "  ".join(f"{one:9.2f}" for one in times)
        print(f"{entering:>3} -> {leaving:<2}  {stride:6}  {told}  {times[2] / times[0]:14.2f}")


def learn(hands: int, epochs: int, measured: int) -> None:
    """Print how long one region of each size takes, and what all regions come to."""
    config, network = InputConfig(), NetworkConfig()
    rng = np.random.default_rng(0)
    of_side = {}
    for side in (config.side, config.wide_side):
        views = (rng.random((hands, side, side)) > 0.5).astype(np.float32)
        start = time.perf_counter()
        fit_encoder(views, network, ScheduleConfig(measured, 32, 1e-3), "of noise")
        of_side[side] = (time.perf_counter() - start) / measured
        print(f"{side} px: {of_side[side]:.2f} s an epoch of {hands} hands")
    whole = epochs * sum(of_side[config.side_of(region)] for region in REGIONS)
    print(f"{len(REGIONS)} regions, {epochs} epochs: {whole / 60:.0f} min of one thread; two cores halve it")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hands", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30, help="that the total is told for")
    parser.add_argument("--measured", type=int, default=2, help="epochs that are timed")
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    compare_forms()
    learn(given.hands, given.epochs, given.measured)


if __name__ == "__main__":
    main()
