"""Makes the picture of a report that docs/ shows: `picture.py REPORT.html PICTURE.png [--width 1280] [--height 1360] [--dark]`.

The picture is made smaller by a palette, without loss that anyone sees, and is refused above 400 kB.
"""

from __future__ import annotations

import argparse
import struct
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from browser import Browser, install  # noqa: E402

MOST = 400_000


def chunks(png: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 8
    while at < len(png):
        (size,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        found[kind] = found.get(kind, b"") + png[at + 8 : at + 8 + size]
        at += 12 + size
    return found


def pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height, and the rows of an 8-bit RGB or RGBA picture, as RGB (<https://www.w3.org/TR/png-3/#9Filters>)."""
    parts = chunks(png)
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    if (depth, interlaced) != (8, 0) or kind not in (2, 6):
        raise ValueError(f"a PNG of another form: depth {depth}, colour type {kind}")
    channels = 3 if kind == 2 else 4
    data, stride = zlib.decompress(parts[b"IDAT"]), width * channels
    rows, above = [], bytearray(stride)
    for line in range(height):
        begin = line * (stride + 1)
        how, row = data[begin], bytearray(data[begin + 1 : begin + 1 + stride])
        for at in range(stride):
            left = row[at - channels] if at >= channels else 0
            up = above[at]
            if how == 1:
                row[at] = row[at] + left & 255
            elif how == 2:
                row[at] = row[at] + up & 255
            elif how == 3:
                row[at] = row[at] + (left + up) // 2 & 255
            elif how == 4:
                corner = above[at - channels] if at >= channels else 0
                guess = left + up - corner
                near = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))
                row[at] = row[at] + near[2] & 255
        above = row
        rows.append(bytes(row) if channels == 3 else bytes(b for at, b in enumerate(row) if at % 4 != 3))
    return width, height, rows


def with_palette(png: bytes) -> bytes:
    """The same picture with at most 256 colours: the commonest stay, each other becomes the nearest of them."""
    width, height, rows = pixels(png)
    counts: dict[bytes, int] = {}
    for row in rows:
        for at in range(0, len(row), 3):
            colour = row[at : at + 3]
            counts[colour] = counts.get(colour, 0) + 1
    palette = sorted(counts, key=lambda colour: (-counts[colour], colour))[:256]
    place = {colour: at for at, colour in enumerate(palette)}
    for colour in counts.keys() - place.keys():
        place[colour] = min(range(len(palette)), key=lambda at: sum((a - b) ** 2 for a, b in zip(colour, palette[at])))
    lines = b"".join(b"\0" + bytes(place[row[at : at + 3]] for at in range(0, len(row), 3)) for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return png[:8] + chunk(b"IHDR", header) + chunk(b"PLTE", b"".join(palette)) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def main() -> int:
    parser = argparse.ArgumentParser(description="the picture of a report")
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1360)
    parser.add_argument("--dark", action="store_true")
    given = parser.parse_args()
    if not install():
        print("no browser can be had here (Debian: chromium, chromium-driver)", file=sys.stderr)
        return 1
    with Browser() as browser:
        browser.look(given.width, dark=given.dark)
        browser.open(given.report.resolve())
        png = with_palette(browser.picture(given.width, given.height))
    if len(png) > MOST:
        print(f"{given.picture} would have {len(png)} bytes, and {MOST} are the most", file=sys.stderr)
        return 1
    given.picture.write_bytes(png)
    print(f"{given.picture}: {len(png)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
