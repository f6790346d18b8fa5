#!/usr/bin/env python3
"""tools/make_wgmma.py [--check]: writes perpend/kernels/cuda/device/wgmma_bf16.cuh and wgmma_f16.cuh,
the wrappers of the warpgroup product instructions, whose operand lists are too long to be written by hand."""

import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "perpend/kernels/cuda/device"
TYPES = {"Bf16": "bf16", "F16": "f16"}
SHARED_WIDTHS = (32, 64, 128)  # columns of q k^T: keys of a step
TRANSPOSED_WIDTHS = (32, 64)  # columns of d_s k that a warpgroup computes: half of the head dimension
REGISTER_WIDTHS = (32, 64, 96, 128, 192, 256)  # columns of p v: the head dimension

HEAD = """#pragma once

#include "perpend/kernels/cuda/device/wgmma_products.cuh"

// Written by tools/make_wgmma.py.

// clang-format off
namespace perpend::device {
"""


def wrapped(items: list[str], indent: str) -> str:
    lines, line = [], ""
    for item in items:
        if line and len(indent) + len(line) + len(item) + 2 > 98:
            lines.append(line)
            line = ""
        line += (" " if line else "") + item
    return ("\n" + indent).join(lines + [line])


def numbers(first: int, count: int) -> list[str]:
    """As pieces of a string literal, eight registers each."""
    names = [f"%{i}" for i in range(first, first + count)]
    rows = [", ".join(names[i : i + 16]) for i in range(0, count, 16)]
    return [f'"{row}{", " if i + 1 < len(rows) else ""}"' for i, row in enumerate(rows)]


def outputs(count: int) -> str:
    return wrapped([f'"+f"(d[{i}])' + ("," if i + 1 < count else "") for i in range(count)], " " * 10)


def instruction(name: str, width: int) -> str:
    return f"wgmma.mma_async.sync.aligned.m64n{width}k16.f32.{name}.{name}"


def shared_product(kind: str, element: str, name: str, width: int) -> str:
    count = width // 2
    registers = "\n        ".join(numbers(0, count))
    transposed = {"SharedProduct": 0, "TransposedProduct": 1}[kind]
    return f"""
template <>
struct {kind}<{element}, {width}> {{
  static __device__ __forceinline__ void add(float (&d)[{count}], std::uint64_t a, std::uint64_t b,
                                             bool accumulate) {{
    asm volatile(
        "{{\\n.reg .pred keep;\\nsetp.ne.b32 keep, %{count + 2}, 0;\\n"
        "{instruction(name, width)} {{"
        {registers}
        "}}, %{count}, %{count + 1}, keep, 1, 1, {transposed}, {transposed};\\n}}"
        : {outputs(count)}
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
  }}
}};
"""


def register_product(element: str, name: str, width: int) -> str:
    count = width // 2
    registers = "\n        ".join(numbers(0, count))
    a = ", ".join(f"%{count + i}" for i in range(4))
    return f"""
template <>
struct RegisterProduct<{element}, {width}> {{
  static __device__ __forceinline__ void add(float (&d)[{count}], const std::uint32_t* a,
                                             std::uint64_t b) {{
    asm volatile(
        "{{\\n.reg .pred keep;\\nsetp.eq.b32 keep, 0, 0;\\n"
        "{instruction(name, width)} {{"
        {registers}
        "}}, {{{a}}}, %{count + 4}, keep, 1, 1, 1;\\n}}"
        : {outputs(count)}
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }}
}};
"""


def text(element: str) -> str:
    name = TYPES[element]
    parts = [HEAD]
    parts += [shared_product("SharedProduct", element, name, width) for width in SHARED_WIDTHS]
    parts += [shared_product("TransposedProduct", element, name, width) for width in TRANSPOSED_WIDTHS]
    parts += [register_product(element, name, width) for width in REGISTER_WIDTHS]
    return "".join(parts) + "\n}  // namespace perpend::device\n"


def main() -> None:
    for element, name in TYPES.items():
        file = FOLDER / f"wgmma_{name}.cuh"
        if sys.argv[1:] != ["--check"]:
            file.write_text(text(element))
        elif file.read_text() != text(element):
            sys.exit(f"{file.name} is not what tools/make_wgmma.py writes")


main()
