"""moltide: an engine for foundation models of proteins, small molecules and RNA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moltide.lazy import importing

# Names are imported at first use so that `import moltide` stays well under 0.3 s.
_LAZY = {
    "load": "moltide.pretrained",
    "Encoder": "moltide.encoder",
    "AssayRegressor": "moltide.estimators",
    "AssayClassifier": "moltide.estimators",
    "load_assay_model": "moltide.estimators",
    "read_assay": "moltide.assay",
    "set_num_threads": "moltide._engine",
    "num_threads": "moltide._engine",
    "MoltideError": "moltide.errors",
    "CheckpointError": "moltide.errors",
    "DataError": "moltide.errors",
    "ConfigError": "moltide.errors",
    "MissingDependencyError": "moltide.errors",
    "MemoryPlanError": "moltide.errors",
}

__version__ = "0.1.0"
__all__ = [*_LAZY, "__version__"]

if TYPE_CHECKING:
    from moltide._engine import num_threads, set_num_threads
    from moltide.assay import read_assay
    from moltide.encoder import Encoder
    from moltide.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        MemoryPlanError,
        MissingDependencyError,
        MoltideError,
    )
    from moltide.estimators import AssayClassifier, AssayRegressor, load_assay_model
    from moltide.pretrained import load


__getattr__ = importing(__name__, _LAZY)


def __dir__() -> list[str]:
    return sorted(__all__)
