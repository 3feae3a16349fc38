"""What a run was computed with: versions, processor, threads."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas", "safetensors", "huggingface_hub")


def environment() -> dict[str, Any]:
    """Plain JSON types."""
    import moltide
    from moltide import _engine

    return {
        "moltide": moltide.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _engine.cpu_model(),
        "instruction_set": _engine.active_isa(),
        "threads": _engine.num_threads(),
        "libraries": {name: library_version(name) for name in LIBRARIES},
    }


def library_version(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
