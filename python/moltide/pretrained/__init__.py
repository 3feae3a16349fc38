"""Published checkpoints: found, checked, read into the engine, and written back.

`load` is the way in. One module a family of models (`esm`) holds its names as data; the others
know files, the Hub and safetensors, and no family.
"""

from __future__ import annotations

from moltide.pretrained.loading import load
from moltide.pretrained.locate import bundled_names

__all__ = ["bundled_names", "load"]
