#!/usr/bin/env python3
"""Draws planning time against live tiles, as measured by bench/schedule/compile_bench.

    bench/plot_planning.py build/release/bench/schedule/compile_bench docs/planning.svg

Runs the series that grow (medians of several repetitions, time of the thread), writes the picture and prints
the points: live tiles, milliseconds, nanoseconds a tile. A line of slope one means time proportional to live tiles.
"""

import argparse
import json
import math
import pathlib
import subprocess

SERIES = {
    "sink_window_2048": ("causal & (sink(128) | window(2048)), 8k to 4M tokens", "#1f6fb4"),
    "ragged_documents": ("causal & same(doc), 125 to 16000 documents of 16 to 400 tokens", "#c2452d"),
    "strided_blocks": ("causal & (near(64, 16) | every(64, 64)), 8k to 256k tokens", "#2f8f4e"),
}
WIDTH, HEIGHT = 760, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 60


def measure(benchmark, repetitions):
    """Series name -> [(live tiles, milliseconds)], ascending."""
    pattern = "^(" + "|".join(SERIES) + ")/[0-9]+/manual_time"
    command = [
        benchmark,
        f"--benchmark_filter={pattern}",
        f"--benchmark_repetitions={repetitions}",
        "--benchmark_min_time=0.05",
        "--benchmark_format=json",
    ]
    runs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["benchmarks"]
    points = {name: [] for name in SERIES}
    for run in runs:
        if run.get("aggregate_name") == "median":
            points[run["run_name"].split("/")[0]].append((run["tiles"], run["real_time"] / 1000))
    return {name: sorted(series) for name, series in points.items()}


class LogAxis:
    """Maps values to pixels; whole decades at both ends."""

    def __init__(self, values, first_pixel, last_pixel):
        self.first = math.floor(math.log10(min(values)))
        self.last = math.ceil(math.log10(max(values)))
        self.first_pixel = first_pixel
        self.scale = (last_pixel - first_pixel) / (self.last - self.first)

    def pixel(self, value):
        return self.first_pixel + (math.log10(value) - self.first) * self.scale

    def decades(self):
        return [10.0**e for e in range(self.first, self.last + 1)]


def text(x, y, content, anchor="middle", extra=""):
    content = content.replace("&", "&amp;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{content}</text>'


def line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def draw_grid(x, y):
    shapes = []
    for value in x.decades():
        at = x.pixel(value)
        shapes.append(line(at, TOP, at, HEIGHT - BOTTOM, 'stroke="#ddd"'))
        shapes.append(text(at, HEIGHT - BOTTOM + 18, f"{value:,.0f}"))
    for value in y.decades():
        at = y.pixel(value)
        shapes.append(line(LEFT, at, WIDTH - RIGHT, at, 'stroke="#ddd"'))
        shapes.append(text(LEFT - 8, at + 4, f"{value:g}", "end"))
    shapes.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "live tiles"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    shapes.append(text(18, middle, "planning time, ms", extra=f'transform="rotate(-90 18 {middle})"'))
    return shapes


def draw_slope(x, y, points):
    """A dashed line of slope one through the largest point of a series, as far as the picture goes."""
    tiles, milliseconds = points[-1]
    low = max(points[0][0], tiles * y.decades()[0] / milliseconds)
    start = (x.pixel(low), y.pixel(milliseconds * low / tiles))
    return line(*start, x.pixel(tiles), y.pixel(milliseconds), 'stroke="#999" stroke-dasharray="4 4"')


def draw(series):
    everything = [point for points in series.values() for point in points]
    x = LogAxis([tiles for tiles, _ in everything], LEFT, WIDTH - RIGHT)
    y = LogAxis([milliseconds for _, milliseconds in everything], HEIGHT - BOTTOM, TOP)
    shapes = draw_grid(x, y)
    for row, (name, (label, colour)) in enumerate(SERIES.items()):
        shapes.append(draw_slope(x, y, series[name]))
        pixels = [(x.pixel(tiles), y.pixel(milliseconds)) for tiles, milliseconds in series[name]]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in pixels)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{colour}"/>' for px, py in pixels]
        shapes.append(f'<circle cx="{LEFT + 16}" cy="{TOP + 16 + 18 * row}" r="4" fill="{colour}"/>')
        shapes.append(text(LEFT + 26, TOP + 20 + 18 * row, label, "start"))
    shapes.append(text(WIDTH / 2, 22, "Planning on one thread; dashed: time proportional to live tiles"))
    header = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#222">'
    )
    return "\n".join([header, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *shapes, "</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", help="the program compile_bench")
    parser.add_argument("picture", type=pathlib.Path, help="SVG file to write")
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    series = measure(arguments.benchmark, arguments.repetitions)
    arguments.picture.write_text(draw(series))
    for name, points in series.items():
        for tiles, milliseconds in points:
            print(f"{name:18} {tiles:10.0f} tiles {milliseconds:9.3f} ms {milliseconds * 1e6 / tiles:7.1f} ns a tile")


if __name__ == "__main__":
    main()
