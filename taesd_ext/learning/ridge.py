"""Convolutions solved in closed form: ridge regression on the pixels of a few pictures, no training loop."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from taesd_ext.codec.noise import seeded
from taesd_ext.models.layers import Conv2d

PENALTY = 1e-3
"""Of the mean diagonal of the normal equations. At 1e-4 one FLUX.1 picture fell to 7.5 dB."""

POSITIONS = 1024
"""Random positions taken from each picture: neighbours say much the same."""


class ConvolutionFit:
    """The normal equations of a convolution, zero-padded to keep the size, summed in double precision."""

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int = 3) -> None:
        self.channels_in, self.channels_out, self.kernel = channels_in, channels_out, kernel
        terms = channels_in * kernel**2 + 1
        self.gram = torch.zeros(terms, terms, dtype=torch.float64)
        self.moment = torch.zeros(terms, channels_out, dtype=torch.float64)

    def add(
        self,
        features: Tensor,
        target: Tensor,
        generator: torch.Generator,
        *,
        within: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """One picture: (1,channels_in,h,w) features and the (1,channels_out,h,w) that should come of them.

        ``within`` (rows, columns) leaves out positions, as those whose neighbours are not known.
        """
        height, width = features.shape[-2:]
        positions = torch.arange(height * width).view(height, width)[within].flatten()
        if len(positions) > POSITIONS:
            positions = positions[torch.randperm(len(positions), generator=generator)[:POSITIONS]]
        patches = functional.unfold(features.float(), self.kernel, padding=self.kernel // 2)[0].T[positions]
        wanted = target.float()[0].flatten(1).T[positions]
        rows = functional.pad(patches, (0, 1), value=1.0)
        # A product of float32 rows is good to 1e-6 of its size, far below the penalty; the long sum is the double one.
        self.gram += (rows.T @ rows).double()
        self.moment += (rows.T @ wanted).double()

    def solve(self) -> Conv2d:
        """The convolution; its bias is not penalised."""
        least = max(float(self.gram.diagonal()[:-1].mean()) * PENALTY, 1e-9)  # features may all be zero
        ridge = torch.full((len(self.gram),), least, dtype=torch.float64)
        ridge[-1] = 0
        solution = torch.linalg.solve(self.gram + torch.diag(ridge), self.moment).T.float()
        with torch.device("meta"):
            conv = Conv2d(self.channels_in, self.channels_out, self.kernel, padding=self.kernel // 2)
        conv.weight = nn.Parameter(solution[:, :-1].reshape(conv.weight.shape).contiguous(), requires_grad=False)
        conv.bias = nn.Parameter(solution[:, -1].contiguous(), requires_grad=False)
        return conv


def fit_convolution(features: Tensor, targets: Tensor, *, kernel: int = 3, seed: int = 0) -> Conv2d:
    """Of (N,C,h,w) features and the (N,C',h,w) that should come of them."""
    fit, generator = ConvolutionFit(features.shape[1], targets.shape[1], kernel=kernel), seeded(seed)
    for one, wanted in zip(features.split(1), targets.split(1), strict=True):
        fit.add(one, wanted, generator)
    return fit.solve()
