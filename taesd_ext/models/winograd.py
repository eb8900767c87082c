"""A 3x3 convolution with a quarter of the multiplications: Winograd's minimal filtering F(4x4, 3x3).

A square of 4x4 outputs is seen as a product of polynomials, which 6x6 values at the right points tell: 36
multiplications in place of 144, as 36 products of matrices. Source: Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", arXiv:1509.09308.

The points decide how exact it is. With those usual in the field, 0, 1, -1, 2, -2, a layer of 256 channels is 8e-6 off
(of its largest value), with these 2e-6, and oneDNN's direct convolution is 2e-6 to 3e-6.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

TILE = 4
"""Outputs along a side of a square."""
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
"""And infinity. Each is exact in binary."""

LEAST_CHANNELS = 64
LEAST_POSITIONS = 24 * 24
"""Below either it does not pay."""


def pays(weight: Tensor, height: int, width: int) -> bool:
    """Whether a convolution (O,I,3,3) of so many positions is quicker so."""
    return min(weight.shape[:2]) >= LEAST_CHANNELS and height * width >= LEAST_POSITIONS


def _matrices() -> list[Tensor]:
    """(6,6) values -> their sums at the points; (6,3) the same for a kernel; (4,6) from the points back."""
    values, kernel = [], []
    for point in POINTS:
        others = [other for other in POINTS if other != point]
        values.append([*_with_roots(others), 0.0])
        kernel.append([point**power / math.prod(point - other for other in others) for power in range(3)])
    values.append(_with_roots(POINTS))
    kernel.append([0.0, 0.0, 1.0])
    back = [[*(point**power for point in POINTS), float(power == TILE - 1)] for power in range(TILE)]
    return [torch.tensor(matrix, dtype=torch.float32) for matrix in (values, kernel, back)]


def _with_roots(roots: Iterable[float]) -> list[float]:
    """The coefficients of the polynomial with these roots, the constant first."""
    found = [1.0]
    for root in roots:
        found = [lower - root * own for lower, own in zip([0.0, *found], [*found, 0.0], strict=True)]
    return found


_VALUES, _KERNEL, _BACK = _matrices()
_SIDE = len(_VALUES)


def transformed(weight: Tensor) -> Tensor:
    """(O,I,3,3) -> (36,I,O): the kernels at all pairs of points, columns first."""
    outputs, inputs = weight.shape[:2]
    taps = weight.permute(3, 2, 1, 0).reshape(9, inputs * outputs)
    return (torch.kron(_KERNEL, _KERNEL) @ taps).view(_SIDE**2, inputs, outputs)


def convolve(x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """(B,I,h+2,w+2) channels-last float32 on the CPU, h and w multiples of 4 -> (B,O,h,w) channels-last.

    ``kernels`` is what :func:`transformed` makes. Nothing is padded.
    """
    pictures = [_convolve(picture, kernels) for picture in x.permute(0, 2, 3, 1)]
    whole = torch.stack(pictures) if len(pictures) > 1 else pictures[0][None]
    return (whole if bias is None else whole.add_(bias)).permute(0, 3, 1, 2)


def _convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """(h+2,w+2,I) -> (h,w,O)"""
    down, right = (side // TILE for side in x.shape[:2])
    rows = torch.stack([x[i : i + TILE * (down - 1) + 1 : TILE] for i in range(_SIDE)])
    rows = (_VALUES @ rows.flatten(1)).view(rows.shape)
    squares = torch.stack([rows[:, :, j : j + TILE * (right - 1) + 1 : TILE] for j in range(_SIDE)])
    del rows
    squares = (_VALUES @ squares.flatten(1)).view(_SIDE**2, down * right, -1)
    products = torch.bmm(squares, kernels)
    del squares
    columns = (_BACK @ products.view(_SIDE, -1)).view(TILE, _SIDE, -1)
    del products
    outputs = torch.matmul(_BACK, columns).view(TILE, TILE, down, right, -1)
    return outputs.permute(2, 1, 3, 0, 4).reshape(TILE * down, TILE * right, -1)
