"""Draw the demo's sample pictures: ``python docs/make_samples.py [FOLDER]``, by default into taesd_ext/data/samples."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
SIDE, QUALITY = 512, 60
_SMOOTH = 2
"""Pictures are drawn this many times larger and shrunk, which smooths their edges."""


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) from 0 to 1, each (side, side)."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side
    return np.meshgrid(line, line)


def _noise(side: int, cells: int, seed: int, octaves: int = 5) -> np.ndarray:
    """(side, side) fractal noise in about [-1, 1]: octaves of smoothly enlarged random grids."""
    rng = np.random.default_rng(seed)
    total = np.zeros((side, side), dtype=np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        if count > side:
            break
        tile = Image.fromarray(rng.uniform(-1, 1, (count, count)).astype(np.float32))
        total += np.asarray(tile.resize((side, side), Image.BICUBIC)) / 2**octave
    return total / 1.6


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)[..., None]
    return first * (1 - share) + second * share


def _colour(*rgb: int) -> np.ndarray:
    return np.array(rgb, dtype=np.float32) / 255


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8))


def _lake(side: int) -> Image.Image:
    """Evening over mountains and a lake."""
    x, y = _grid(side)
    shore = 0.66
    # Below the shore everything above it is seen again, shaken by waves.
    waves = _noise(side, 6, 5) * 0.02 + 0.004 * np.sin(y * 420 + 6 * _noise(side, 4, 6))
    mirrored = y > shore
    height = np.where(mirrored, 2 * shore - y + waves * (y - shore) * 6, y)
    along = np.where(mirrored, x + waves * 0.6, x)

    sky = _mix(_colour(38, 62, 128), _colour(252, 170, 98), height / shore)
    sky = _mix(sky, _colour(255, 216, 150), (height / shore - 0.75) * 2)
    clouds = _noise(side, 3, 1) + 0.5 * np.sin(height * 26 + 3 * along)
    sky = _mix(sky, _colour(255, 196, 170), (clouds - 0.35) * 0.7 * (1 - height / shore))
    sun = np.hypot(along - 0.68, (height - 0.45))
    sky = _mix(sky, _colour(255, 240, 200), np.exp(-((sun / 0.16) ** 2)) * 0.8)
    image = _mix(sky, _colour(255, 250, 226), (0.052 - sun) * side / 4)

    column = (along.clip(0, 1) * (side - 1)).astype(int)
    layers = ((0.46, 0.15, 11, (122, 106, 146)), (0.54, 0.12, 12, (76, 72, 112)), (0.62, 0.10, 13, (34, 44, 66)))
    for base, rise, seed, colour in layers:
        ridge = base - rise * (_noise(side, 3, seed, 8)[side // 2] + 0.25)
        depth = height - ridge[column]
        lit = _colour(*colour) * (1 + 0.35 * _noise(side, 12, seed + 20)[..., None])
        image = _mix(image, _mix(lit, _colour(236, 170, 140), depth * 1.5), depth * side / 3)
    water = _mix(image * 0.82, _colour(30, 50, 90), np.full_like(x, 0.16))
    image = np.where(mirrored[..., None], water, image)

    rng = np.random.default_rng(3)
    for left in np.sort(rng.uniform(-0.05, 0.42, 22)):
        tall, foot = rng.uniform(0.12, 0.3), rng.uniform(0.97, 1.03)
        rel = (foot - y) / tall
        boughs = 0.22 * tall * (1 - rel) * (0.55 + 0.45 * ((rel * 9) % 1 < 0.62))
        tree = (np.abs(x - left) < boughs) & (rel > 0) & (rel < 1)
        shade = _colour(14, 26, 30) * (1 + 0.8 * (x - left)[..., None] / (0.08 * tall))
        image = np.where(tree[..., None], shade, image)
    return _picture(image)


def _marbles(side: int) -> Image.Image:
    """Glass and glazed balls on a chequered floor, ray by ray."""
    x, y = _grid(side)
    ray = np.stack([x * 2 - 1, 0.72 - y * 2, np.full_like(x, 1.9)], axis=-1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    light = np.array([-0.55, 0.75, -0.5], dtype=np.float32)
    light /= np.linalg.norm(light)
    balls = (
        ((-0.75, -0.30, 3.2), 0.70, (214, 56, 48)),
        ((0.70, -0.45, 2.8), 0.55, (40, 110, 206)),
        ((0.10, -0.72, 2.0), 0.28, (246, 190, 48)),
        ((1.45, -0.10, 4.6), 0.90, (66, 160, 92)),
        ((-0.62, -0.80, 1.9), 0.20, (240, 240, 240)),
        ((0.00, 0.10, 5.4), 1.10, (150, 84, 180)),
    )

    def backdrop(direction: np.ndarray, origin: np.ndarray) -> np.ndarray:
        up = direction[..., 1]
        sky = _mix(_colour(238, 226, 208), _colour(96, 148, 206), up * 1.6)
        away = np.where(up < -1e-3, (origin[..., 1] + 1) / np.minimum(-up, 1e9).clip(1e-3), 1e3)
        spot = origin + direction * away[..., None]
        even = (np.floor(spot[..., 0] * 1.6) + np.floor(spot[..., 2] * 1.6)) % 2 < 1
        floor = np.where(even[..., None], _colour(232, 226, 216), _colour(86, 70, 66))
        for centre, radius, _ in balls:
            to = np.array(centre, dtype=np.float32) - spot
            near = (to * light).sum(-1)
            miss = np.sqrt(np.maximum((to**2).sum(-1) - near**2, 0))
            floor = _mix(floor, floor * 0.35, np.where(near > 0, (radius * 1.05 - miss) * 6, 0))
        return _mix(floor, sky, np.where(up < -1e-3, away / 22 - 0.25, 1))

    origin = np.zeros_like(ray)
    image = backdrop(ray, origin)
    depth = np.full_like(x, np.inf)
    for centre, radius, rgb in balls:
        middle = np.array(centre, dtype=np.float32)
        near = (ray * middle).sum(-1)
        gap = radius**2 - ((middle**2).sum() - near**2)
        hit = near - np.sqrt(np.maximum(gap, 0))
        seen = (gap > 0) & (hit < depth)
        depth = np.where(seen, hit, depth)
        along = ray[seen]  # (N, 3): only the rays that meet this ball
        spot = along * hit[seen][:, None]
        normal = (spot - middle) / radius
        facing = (normal * light).sum(-1).clip(0, 1)
        mirror = along - 2 * (along * normal).sum(-1, keepdims=True) * normal
        shine = ((mirror * light).sum(-1).clip(0, 1)) ** 60
        swirl = np.sin(normal[..., 0] * 7 + 4 * np.sin(normal[..., 1] * 5))[..., None] * 0.12
        body = _colour(*rgb) * (0.28 + 0.8 * facing[..., None]) * (1 + swirl)
        grazing = (1 + (along * normal).sum(-1)).clip(0, 1)
        image[seen] = _mix(body, backdrop(mirror, spot), 0.12 + 0.6 * grazing**3) + shine[..., None]
    return _picture(image)


def _leaves(side: int) -> Image.Image:
    """Fallen leaves of every size: as many edges and colours as a photograph of a forest floor."""
    rng = np.random.default_rng(8)
    image = Image.new("RGB", (side, side), (56, 40, 30))
    palette = ((196, 80, 34), (226, 150, 42), (150, 44, 36), (118, 128, 52), (88, 58, 40), (238, 196, 96), (70, 92, 58))
    for index in range(520):
        size = side * 0.16 * (1 - index / 620) * rng.uniform(0.6, 1.3)
        leaf = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
        draw = ImageDraw.Draw(leaf)
        colour = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.75, 1.2)
        tint = tuple(int(value) for value in colour.clip(0, 255))
        dark = tuple(int(value * 0.62) for value in tint)
        outline = [(64 + 40 * np.sin(turn) * abs(np.cos(turn / 2)) ** 0.6 * (1 + 0.08 * np.sin(turn * 9)),
                    64 - 60 * np.cos(turn)) for turn in np.linspace(0, 2 * np.pi, 60)]  # fmt: skip
        draw.polygon([(px + 5, py + 5) for px, py in outline], fill=(20, 14, 10, 130))
        draw.polygon(outline, fill=tint)
        draw.line([(64, 8), (64, 127)], fill=dark, width=3)
        for vein in range(20, 108, 14):
            draw.line([(64, vein + 12), (40, vein)], fill=dark, width=2)
            draw.line([(64, vein + 12), (88, vein)], fill=dark, width=2)
        leaf = leaf.rotate(float(rng.uniform(0, 360)), resample=Image.BICUBIC).resize((int(size), int(size)))
        image.paste(leaf, (int(rng.uniform(-0.1, 1) * side), int(rng.uniform(-0.1, 1) * side)), leaf)
    return image


def main(folder: str | Path = ROOT / "taesd_ext" / "data" / "samples") -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, paint in (("Lake", _lake), ("Leaves", _leaves), ("Marbles", _marbles)):
        picture = paint(SIDE * _SMOOTH).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        picture.save(Path(folder) / f"{name}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
