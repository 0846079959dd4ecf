"""Paper 1's auto-encoder: fully connected, with a reconstruction and a k-means loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class AutoEncoder(nn.Module):
    """Maps inputs (N, D) to features (N, F) and back.

    Args:
        inputs: D.
        hidden: widths of the encoder's layers; the decoder has them in reverse.
        features: F.

    Source: paper 1, section III.C and Figure 3 (500, 500, 2000; 2000, 500, 500; ReLU after each).
    Departs: a linear layer of F outputs follows the encoder's 2000 (the paper's features_num), and one of
    D the decoder's 500; neither has a ReLU, since the inputs are standardised and may be negative.
    """

    def __init__(self, inputs: int, hidden: Sequence[int] = (500, 500, 2000), features: int = 24) -> None:
        super().__init__()
        self.encoder = _layers((inputs, *hidden, features))
        self.decoder = _layers((features, *reversed(hidden), inputs))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return features f(x) (N, F) and reconstructions g(f(x)) (N, D)."""
        features: Tensor = self.encoder(inputs)
        return features, self.decoder(features)


def _layers(widths: Sequence[int]) -> nn.Sequential:
    """Return linear layers with a ReLU between each two."""
    layers: list[nn.Module] = []
    for entering, leaving in pairwise(widths):
        layers += [nn.Linear(entering, leaving), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def reconstruction_loss(reconstructed: Tensor, inputs: Tensor) -> Tensor:
    """Return the squared error of reconstructions (N, D), summed over D, a mean over the batch.

    Source: paper 1, equation 5, where l is not named: the squared error of its model (Yang et al. 2017).
    Departs: a mean over crops for the sum, so that the learning rate does not depend on the batch.
    """
    return (reconstructed - inputs).square().sum(dim=1).mean()


def kmeans_loss(features: Tensor, centroids: Tensor, assigned: Tensor) -> Tensor:
    """Return the squared distance of features (N, F) from their centroids, a mean over the batch.

    Args:
        features: f(x).
        centroids: (K, F), M.
        assigned: (N,) the cluster of each, in place of the one-hot s.

    Source: paper 1, equation 7.
    Departs: a mean over crops for the sum, as in equation 5.
    """
    return (features - centroids[assigned]).square().sum(dim=1).mean()


def joint_loss(
    reconstructed: Tensor,
    inputs: Tensor,
    features: Tensor,
    centroids: Tensor,
    assigned: Tensor,
    weight: float,
) -> Tensor:
    """Return the reconstruction loss and half of `weight` (lambda) times the k-means loss.

    Source: paper 1, equation 8; Yang B, Fu X, Sidiropoulos ND, Hong M. Towards k-means-friendly spaces.
    ICML 2017, equation 4.
    """
    clustering = kmeans_loss(features, centroids, assigned)
    return reconstruction_loss(reconstructed, inputs) + weight / 2 * clustering
