"""Reads PNG files in plain Python."""

import struct
import zlib


def paeth(left: int, up: int, corner: int) -> int:
    return min((left, up, corner), key=lambda value: abs(left + up - corner - value))


def unfiltered(kind: int, row: bytes, above: bytes) -> bytes:
    """A row of RGB as it was before its PNG filter."""
    if not any(row) and kind in (0, 2):
        return above if kind else row
    result = bytearray(row)
    for i, value in enumerate(row):
        left, corner = (result[i - 3], above[i - 3]) if i >= 3 else (0, 0)
        up = above[i]
        result[i] = (value + (0, left, up, (left + up) // 2, paeth(left, up, corner))[kind]) & 255
    return bytes(result)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kinds and bodies; checks signature and sums."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = [], 8
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        assert struct.unpack_from(">I", data, place + 8 + size)[0] == zlib.crc32(kind + body)
        chunks.append((kind, body))
        place += 12 + size
    return chunks


def read_png(data: bytes) -> list[bytes]:
    """Rows of RGB; checks what makes a PNG valid."""
    chunks = {}
    for kind, body in png_chunks(data):
        chunks[kind] = chunks.get(kind, b"") + body
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 2, 0, 0, 0] and b"IEND" in chunks
    stored = zlib.decompress(chunks[b"IDAT"])
    assert len(stored) == height * (1 + 3 * width)
    rows = [bytes(3 * width)]
    for place in range(0, len(stored), 1 + 3 * width):
        rows.append(unfiltered(stored[place], stored[place + 1 : place + 1 + 3 * width], rows[-1]))
    return rows[1:]
