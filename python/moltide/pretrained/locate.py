"""From what a user typed to the files it means: a folder, a bundled name or a Hub id."""

from __future__ import annotations

import os
from pathlib import Path

from moltide.errors import CheckpointError, ConfigError
from moltide.kinds import MOLECULE, PROTEIN
from moltide.options import option
from moltide.pretrained.files import ADAPTER_CONFIG, CONFIG, Files, FolderFiles
from moltide.pretrained.hub import HubFiles, is_hub_id

_BUNDLED = Path(__file__).resolve().parent.parent / "bundled"
_DEFAULTS = {PROTEIN: "protein-mini", MOLECULE: "molecule-mini"}


def bundled_names() -> list[str]:
    """Names of the models that come with the package."""
    if not _BUNDLED.is_dir():
        return []
    return sorted(path.name for path in _BUNDLED.iterdir() if (path / CONFIG).is_file())


def default_backbone(kind: str) -> str:
    """The bundled model of a kind of sequence.

    Raises:
        ConfigError: none is bundled; the message names published ones.
    """
    name = _DEFAULTS.get(kind)
    if name is None:
        raise ConfigError(
            f"no model of {kind.upper()} is bundled: give one ({option('backbone')}), such as "
            "multimolecule/rnafm or multimolecule/rinalmo-giga, or a folder of `moltide pretrain`"
        )
    return name


def locate(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
) -> Files:
    """The files of a model or adapter. A folder that holds one comes first, then a bundled name,
    then any other folder, then the Hub; the keyword arguments concern the Hub only.

    Raises:
        CheckpointError: none of the three; the message says what was tried.
    """
    name = os.fspath(name_or_path)
    if not name:
        raise CheckpointError("the name of a model is empty; give a folder, a name or a Hub id")
    path = Path(name).expanduser()
    if path.is_file():
        raise _a_file(path)
    if path.is_dir() and (_looks_like_path(name) or _holds_checkpoint(path)):
        return FolderFiles(path)
    bundled = bundled_names()
    if name in bundled:
        return FolderFiles(_BUNDLED / name)
    if path.is_dir():  # its reader says what is missing from it
        return FolderFiles(path)
    tried = f"bundled models: {', '.join(bundled) or 'none'}"
    if _looks_like_path(name) or not is_hub_id(name):
        raise CheckpointError(
            f"no model {name!r}: there is no such folder; {tried}; a Hub id has an owner and a "
            "name, such as facebook/esm2_t12_35M_UR50D"
        )
    return HubFiles(
        name,
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        local_files_only=local_files_only,
        also_tried=f"no folder {name}; {tried}",
    )


def _holds_checkpoint(path: Path) -> bool:
    return (path / CONFIG).is_file() or (path / ADAPTER_CONFIG).is_file()


def _looks_like_path(name: str) -> bool:
    """Absolute, starting with . or ~, ending with /, or more than the owner/name of a Hub id."""
    return (
        name.startswith((".", "~", os.sep)) or name.endswith(os.sep) or name.count(os.sep) > 1
    ) or ("\\" in name or os.path.isabs(name))


def _a_file(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is a file; give the folder that holds it together with {CONFIG}"
    )
