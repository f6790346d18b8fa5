"""A line plot as SVG, without any package."""

import html
import math
import pathlib

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 60, 220, 40, 50
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
Point = tuple[float, float, float]  # x, y, half the length of a bar around y


def steps_of(low: float, high: float) -> list[float]:
    """Round numbers over [low, high], about five."""
    size = 10 ** math.floor(math.log10(max(high - low, 1e-9)))
    step = next(size * part for part in (0.2, 0.5, 1.0, 2.0) if (high - low) / (size * part) <= 6)
    return [step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


class Axis:
    def __init__(self, low: float, high: float, begin: float, end: float, log: bool = False):
        self.log = log
        self.low, self.high = self.scaled(low), self.scaled(high)
        self.begin, self.end = begin, end

    def scaled(self, value: float) -> float:
        return math.log(value) if self.log else value

    def place(self, value: float) -> float:
        part = (self.scaled(value) - self.low) / ((self.high - self.low) or 1.0)
        return self.begin + part * (self.end - self.begin)


def draw_axes(x: Axis, y: Axis, x_marks: list[float], y_marks: list[float]) -> list[str]:
    parts = [f'<path d="M{x.begin},{y.end}V{y.begin}H{x.end}" fill="none" stroke="#444"/>']
    for mark in x_marks:
        parts.append(f'<text x="{x.place(mark):.1f}" y="{y.begin + 18}" text-anchor="middle">{mark:g}</text>')
    for mark in y_marks:
        place = y.place(mark)
        parts.append(f'<path d="M{x.begin},{place:.1f}H{x.end}" stroke="#ddd"/>')
        parts.append(f'<text x="{x.begin - 8}" y="{place + 4:.1f}" text-anchor="end">{mark:g}</text>')
    return parts


def draw_series(x: Axis, y: Axis, points: list[Point], number: int, name: str) -> list[str]:
    color = COLORS[number % len(COLORS)]
    dash = ' stroke-dasharray="6 4"' if number >= len(COLORS) else ""
    places = [(x.place(a), y.place(b), y.place(b - bar), y.place(b + bar)) for a, b, bar in points]
    path = "L".join(f"{a:.1f},{b:.1f}" for a, b, _, _ in places)
    parts = [f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>']
    for a, b, low, high in places:
        parts.append(f'<path d="M{a:.1f},{low:.1f}V{high:.1f}" stroke="{color}"/><circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{color}"/>')
    place = TOP + 18 * number
    parts.append(f'<path d="M{WIDTH - RIGHT + 20},{place}h24" stroke="{color}" stroke-width="2"{dash}/>')
    parts.append(f'<text x="{WIDTH - RIGHT + 50}" y="{place + 4}">{html.escape(name)}</text>')
    return parts


def write_line_plot(
    path: pathlib.Path, title: str, x_label: str, y_label: str, series: dict[str, list[Point]], log_x: bool = False
) -> None:
    """Series without points are left out. x must be positive with `log_x`."""
    series = {name: sorted(points) for name, points in series.items() if points}
    xs = sorted({point[0] for points in series.values() for point in points})
    ys = [b + sign * bar for points in series.values() for _, b, bar in points for sign in (-1, 1)]
    if not xs:
        raise ValueError(f"{path}: there is nothing to plot")
    low, high = min(0.0, *ys), max(ys)
    x = Axis(xs[0], xs[-1], LEFT, WIDTH - RIGHT, log_x)
    y = Axis(low, high, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{html.escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{html.escape(x_label)}</text>',
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{html.escape(y_label)}</text>',
    ]
    parts += draw_axes(x, y, xs if len(xs) <= 10 else steps_of(xs[0], xs[-1]), steps_of(low, high))
    for number, (name, points) in enumerate(series.items()):
        parts += draw_series(x, y, points, number, name)
    pathlib.Path(path).write_text("\n".join([*parts, "</svg>"]) + "\n")
