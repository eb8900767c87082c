"""Synthetic pictures and latents: what small networks learn from, so that nobody's photographs are needed.

Everything is drawn from a seeded ``torch.Generator`` on the CPU and never touches the global random state. Variety
matters more than likeness: the statistics of edges, textures, gradients and lettering, in many palettes.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from taesd_ext.codec.noise import FALLOFFS, pick, power_law

_GLYPHS = 40
_GLYPH_ROWS, _GLYPH_COLUMNS = 7, 5


def mixed_latent(channels: int, side: int, generator: torch.Generator) -> Tensor:
    """(C,side,side) of small amplitude, channels mixed at random and off centre: for decoders without an encoder."""
    mixing = torch.linalg.qr(torch.randn(channels, channels, generator=generator)).Q
    noise = power_law(channels, side, pick(FALLOFFS, channels, generator), generator)
    mean = torch.randn(channels, 1, 1, generator=generator) * 0.3
    deviation = 0.3 + 0.7 * torch.rand((), generator=generator)
    return torch.einsum("dc,chw->dhw", mixing, noise) * deviation + mean


def leaves_latent(channels: int, side: int, generator: torch.Generator) -> Tensor:
    """(C,side,side) dead leaves in latent space: flat and textured regions with sharp borders."""
    leaves = dead_leaves(channels, side, generator) - 0.5
    leaves -= leaves.mean(dim=(1, 2), keepdim=True) * torch.rand(channels, 1, 1, generator=generator)
    return leaves / leaves.std().clamp_(min=1e-3) * _uniform(0.6, 1.3, generator)


def soften(latent: Tensor, generator: torch.Generator) -> Tensor:
    """(C,h,w) -> the latent as early sampling steps show it: blurred, now and then noisy; or shrunk and noisy."""
    noise = torch.randn(latent.shape, generator=generator)
    if torch.rand((), generator=generator) < 0.25:
        return latent * _uniform(0.3, 0.9, generator) + noise * _uniform(0.05, 0.3, generator)
    sigma = float(pick((0.6, 1.0, 1.7, 3.0), 1, generator))
    return blur(latent, sigma) + noise * float(pick((0.0, 0.0, 0.1, 0.2), 1, generator))


def blur(picture: Tensor, sigma: float) -> Tensor:
    """(C,h,w) -> the same, under a Gaussian of ``sigma`` pixels, edges repeated."""
    reach = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    rows = picture[:, None]
    for _ in range(2):
        rows = functional.conv2d(functional.pad(rows, (reach, reach, 0, 0), mode="replicate"), weights)
        rows = rows.transpose(2, 3)
    return rows[:, 0]


def picture(side: int, generator: torch.Generator) -> Tensor:
    """(3,side,side) picture in [0,1]: one of the kinds below, or several laid over each other."""
    kind = float(torch.rand((), generator=generator))
    if kind < 0.5:
        image = dead_leaves(3, side, generator)
    elif kind < 0.65:
        image = _clouds(side, generator)
    elif kind < 0.8:
        image = _scene(side, generator)
    else:
        image = _written_page(side, generator)
    image = _light(image, generator)
    if torch.rand((), generator=generator) < 0.3:
        image = image + torch.randn(image.shape, generator=generator) * _uniform(0.005, 0.05, generator)
    return image.clamp_(0, 1)


def dead_leaves(channels: int, side: int, generator: torch.Generator) -> Tensor:
    """(C,side,side) in about [0,1]: discs, bars and polygons of power-law sizes that hide each other.

    Each leaf has its own colour of the palette, shading and texture. Drawn at twice the size and averaged, so that
    the borders are smooth.
    """
    wide = 2 * side
    colour = _palette(channels, generator)
    canvas = _fill(channels, wide, colour(), generator)
    texture = power_law(channels, wide, _uniform(0.6, 1.6, generator), generator)
    smallest = _uniform(0.008, 0.04, generator) * wide
    largest = _uniform(0.15, 0.6, generator) * wide
    rows = torch.arange(wide, dtype=torch.float32)
    for _ in range(int(torch.randint(20, 220, (), generator=generator))):
        # Radii of natural scenes: density ~ radius ** -3.
        share = float(torch.rand((), generator=generator))
        radius = (smallest**-2 + share * (largest**-2 - smallest**-2)) ** -0.5
        centre = torch.rand(2, generator=generator) * wide
        top, left = (int(max(0, float(c) - 1.5 * radius)) for c in centre)
        bottom, right = (int(min(wide, float(c) + 1.5 * radius + 1)) for c in centre)
        y = rows[top:bottom, None] - centre[0]
        x = rows[None, left:right] - centre[1]
        if y.numel() == 0 or x.numel() == 0:
            continue
        inside = _leaf_shape(y, x, radius, generator)
        slope = torch.randn(2, channels, 1, 1, generator=generator) * _uniform(0, 0.25, generator) / radius
        roughness = float(pick((0.0, 0.03, 0.07, 0.15), 1, generator))
        leaf = colour() + slope[0] * y + slope[1] * x + roughness * texture[:, top:bottom, left:right]
        canvas[:, top:bottom, left:right] = torch.where(inside, leaf, canvas[:, top:bottom, left:right])
    return functional.avg_pool2d(canvas, 2)


def _leaf_shape(y: Tensor, x: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    angle = float(torch.rand((), generator=generator)) * math.tau
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    kind = int(torch.randint(0, 4, (), generator=generator))
    if kind == 0:
        return along.square() + across.square() < radius**2
    if kind == 1:
        return along.square() + (across * _uniform(1.2, 4, generator)).square() < radius**2
    if kind == 2:
        return (along.abs() < radius) & (across.abs() < radius * _uniform(0.03, 0.8, generator))
    corners = int(torch.randint(3, 8, (), generator=generator))
    sector = math.tau / corners
    turn = torch.atan2(across, along).remainder(sector) - sector / 2
    return (along.square() + across.square()).sqrt() * turn.cos() < radius * math.cos(sector / 2)


def _clouds(side: int, generator: torch.Generator) -> Tensor:
    """Noise like that of natural textures, in the colours of a palette."""
    noise = power_law(3, side, _uniform(0.7, 2.0, generator), generator)
    grey = power_law(1, side, _uniform(0.7, 2.0, generator), generator)
    colour = _palette(3, generator)
    strength = _uniform(0.05, 0.25, generator)
    return colour() + strength * (grey + _uniform(0, 0.7, generator) * noise)


def _scene(side: int, generator: torch.Generator) -> Tensor:
    """A sky and a ground of smooth gradients, with leaves before them and much of it out of focus."""
    colour = _palette(3, generator)
    image = _fill(3, side, colour(), generator)
    horizon = int(side * _uniform(0.2, 0.8, generator))
    image[:, horizon:] = _fill(3, side, colour(), generator)[:, horizon:]
    before = dead_leaves(3, side, generator)
    mask = power_law(1, side, 2.0, generator) > _uniform(0.0, 1.0, generator)
    image = blur(image, _uniform(0.5, 6, generator))
    soft = blur(mask.float(), _uniform(0.4, 2, generator))
    return image + (before - image) * soft


def _written_page(side: int, generator: torch.Generator) -> Tensor:
    """Lines of letter-like glyphs in one or two sizes, on paper, on a picture or on a coloured sign."""
    colour = _palette(3, generator)
    if torch.rand((), generator=generator) < 0.5:
        image = _fill(3, side, colour(), generator)
    else:
        image = blur(dead_leaves(3, side, generator), _uniform(0.3, 3, generator))
    alphabet = torch.rand(_GLYPHS, _GLYPH_ROWS, _GLYPH_COLUMNS, generator=generator) < 0.45
    for _ in range(int(torch.randint(1, 4, (), generator=generator))):
        scale = float(pick((1.0, 1.5, 2.0, 3.0, 5.0, 8.0), 1, generator))
        ink = colour() if torch.rand((), generator=generator) < 0.5 else float(pick((0.03, 0.97), 1, generator))
        lines = torch.randint(1, 8, (), generator=generator)
        mask = _glyph_lines(alphabet, int(lines), max(1, int(side / (6 * scale))), scale, generator)
        height, width = (min(side, length) for length in mask.shape)
        top = int(torch.randint(0, side - height + 1, (), generator=generator))
        left = int(torch.randint(0, side - width + 1, (), generator=generator))
        area = image[:, top : top + height, left : left + width]
        area += (ink - area) * mask[:height, :width]
    return image


def _glyph_lines(alphabet: Tensor, lines: int, letters: int, scale: float, generator: torch.Generator) -> Tensor:
    """(h,w) coverage in [0,1] of so many lines of letters, a glyph's dot being ``scale`` pixels."""
    text = torch.randint(0, _GLYPHS, (lines, letters), generator=generator)
    spaces = torch.rand(lines, letters, generator=generator) < 0.15
    glyphs = functional.pad(alphabet[text].float(), (0, 1, 0, 3)) * ~spaces[..., None, None]
    dots = glyphs.permute(0, 2, 1, 3).flatten(2, 3).flatten(0, 1)
    return functional.interpolate(dots[None, None], scale_factor=scale, mode="bilinear")[0, 0]


def _palette(channels: int, generator: torch.Generator) -> Callable[[], Tensor]:
    """A source of colours (C,1,1) that belong together: mostly near a few anchors, greys more often than pure hues."""
    anchors = torch.rand(4, 1, generator=generator) + torch.randn(4, channels, generator=generator) * _uniform(
        0.03, 0.35, generator
    )
    spread = _uniform(0.02, 0.2, generator)
    tint = torch.randn(channels, generator=generator) * 0.05

    def colour() -> Tensor:
        anchor = anchors[int(torch.randint(0, 4, (), generator=generator))]
        grey = torch.randn((), generator=generator) * spread
        hue = torch.randn(channels, generator=generator) * spread * 0.5
        return (anchor + grey + hue + tint).clamp(-0.05, 1.05).view(channels, 1, 1)

    return colour


def _fill(channels: int, side: int, colour: Tensor, generator: torch.Generator) -> Tensor:
    """(C,side,side): the colour, shaded along a random direction."""
    ramp = torch.linspace(-0.5, 0.5, side)
    slopes = torch.randn(2, channels, 1, 1, generator=generator) * 0.1
    slopes = slopes + torch.randn(2, 1, 1, 1, generator=generator) * 0.2
    return colour + slopes[0] * ramp[:, None] + slopes[1] * ramp[None, :]


def _light(image: Tensor, generator: torch.Generator) -> Tensor:
    """Saturation, exposure, contrast, a cast of colour and now and then the blur of a lens."""
    grey = image.mean(dim=0, keepdim=True)
    image = grey + (image - grey) * _uniform(0.1, 1.0, generator)
    image = (image - 0.5) * _uniform(0.6, 1.3, generator) + 0.5 + _uniform(-0.15, 0.15, generator)
    image = image.clamp(0, 1) ** _uniform(0.6, 1.8, generator)
    image = image * (1 + torch.randn(3, 1, 1, generator=generator) * 0.06)
    if torch.rand((), generator=generator) < 0.25:
        image = blur(image, _uniform(0.4, 2.5, generator))
    return image


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
