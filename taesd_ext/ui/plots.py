"""Small plots as SVG, drawn here: no library to install, and the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 460, 260, 50, 40, 14, 90


def bars(groups: Sequence[tuple[str, Sequence[tuple[str, float]]]], unit: str) -> str:
    """Horizontal bars on a logarithmic scale: (group's name, ((bar's name, value above 0), ...)) each."""
    values = [value for _, group in groups for _, value in group if value > 0]
    if not values:
        return ""
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values) * 1.0001))
    row, width, left = 18, _WIDTH, 110
    parts, y = [], 6.0
    for name, group in groups:
        parts.append(f'<text x="0" y="{y + 12}" class="taesd-ext-strong">{escape(name)}</text>')
        for label, value in group:
            length = (width - left - 90) * _share(value, low, high)
            parts.append(
                f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{escape(label)}</text>'
                f'<rect x="{left}" y="{y + 2}" width="{max(length, 1):.1f}" height="{row - 5}" rx="2"/>'
                f'<text x="{left + length + 6:.1f}" y="{y + 12}">{_words(value)} {escape(unit)}</text>'
            )
            y += row
        y += 8
    return _svg(width, y, parts, "bars")


def scatter(points: Sequence[tuple[str, float, float]], x_title: str, y_title: str) -> str:
    """Named points, (name, x above 0, y) each; x is logarithmic."""
    points = [point for point in points if point[1] > 0 and math.isfinite(point[2])]
    if not points:
        return ""
    xs, ys = [x for _, x, _ in points], [y for _, _, y in points]
    x_low, x_high = min(xs) / 1.5, max(xs) * 1.5
    y_low, y_high = math.floor(min(ys) - 1), math.ceil(max(ys) + 1)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [f'<path d="M{_LEFT},{_TOP}V{bottom}H{right}" class="taesd-ext-axis"/>']
    for tick in _ticks(y_low, y_high):
        y = bottom - (bottom - _TOP) * (tick - y_low) / (y_high - y_low)
        parts.append(f'<path d="M{_LEFT},{y:.1f}H{right}" class="taesd-ext-grid-line"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    powers = range(math.floor(math.log10(x_low)), math.floor(math.log10(x_high)) + 1)
    for tick in (digit * 10.0**power for power in powers for digit in (1, 2, 5)):
        if x_low <= tick <= x_high:
            x = _LEFT + (right - _LEFT) * _share(tick, x_low, x_high)
            parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for name, x_value, y_value in points:
        x = _LEFT + (right - _LEFT) * _share(x_value, x_low, x_high)
        y = bottom - (bottom - _TOP) * (y_value - y_low) / (y_high - y_low)
        words = f"{name}: {_words(x_value)}, {_words(y_value)}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{escape(words)}</title></circle>')
        parts.append(f'<text x="{x + 9:.1f}" y="{y + 4:.1f}">{escape(name)}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>')
    middle = -(_TOP + bottom) / 2
    parts.append(f'<text x="{middle}" y="12" transform="rotate(-90)" text-anchor="middle">{escape(y_title)}</text>')
    return _svg(_WIDTH, _HEIGHT, parts, "scatter")


def _words(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two ends on a logarithmic scale."""
    return (math.log(value) - math.log(low)) / max(math.log(high) - math.log(low), 1e-9)


def _ticks(low: float, high: float) -> list[float]:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if (high - low) / step <= 8)
    first = math.ceil(low / step) * step
    return [first + step * index for index in range(int((high - first) / step) + 1)]


def _svg(width: float, height: float, parts: list[str], kind: str) -> str:
    return (
        f'<svg class="taesd-ext-plot taesd-ext-{kind}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
