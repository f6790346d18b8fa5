"""Pictures of masks."""

from __future__ import annotations

import os


class MaskPicture:
    """A picture of a mask, shown by notebooks: keys to the right, queries downwards.

    Full tiles are dark blue, partial tiles light blue with their live pairs dark, dead pairs white.
    ``str()`` draws it with block characters for a terminal.
    """

    def __init__(self, png: bytes, text: str):
        self.png = png
        self._text = text

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the PNG file `path`."""
        with open(path, "wb") as file:
            file.write(self.png)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<perpend.MaskPicture, PNG of {len(self.png)} bytes>"
