"""Rendered pictures of the arm as elements of the page: bytes inside the file, no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """What the simulator drew; everything empty where it could not."""

    film: str = ""
    """An image element for the top of the page."""
    caption: str = ""
    """What the film shows."""
    remark: str = ""
    """Why there is no film, and what would bring it."""


def film_element(frames: Sequence[Frame], frames_per_second: float, words: str) -> str:
    """An animated picture as an image element, from RGB frames ``(height, width, 3)``."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    data = io.BytesIO()
    options = {"duration": round(1000 / frames_per_second), "loop": 0, "quality": 62, "method": 2}
    images[0].save(data, "WEBP", save_all=True, append_images=images[1:], **options)
    coded = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="{escape(words)}" src="data:image/webp;base64,{coded}">'
