"""An AssayModel in a folder.

config.json               what the model is: spec, settings, backbone; written last
head.safetensors          head, target scaling, recalibration, uncertainty, domain, spread of the
                          targets
domain.safetensors        fingerprints of the training molecules, where these are molecules
adapter_config.json,      LoRA adapter in PEFT's format
adapter_model.safetensors
model/                    the full model in its published format (full fine-tuning)
backbone/                 the backbone, where no name leads to it, or a name that another version
                          of moltide may give to other weights (bundled models)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.array_file import read_arrays, write_arrays
from moltide.assay_model.backbone import BACKBONE, reload_backbone
from moltide.assay_model.class_sets import ClassSets
from moltide.assay_model.domain import load_domain, save_domain
from moltide.assay_model.model import ADAPTER, AssayModel
from moltide.assay_model.molecule_domain import FILE as DOMAIN
from moltide.assay_model.recalibration import Recalibration
from moltide.assay_model.spec import ModelSpec, TargetScaling
from moltide.assay_model.target_domains import TargetDomains
from moltide.assay_model.uncertainty import Uncertainty
from moltide.atomic import atomic_write_text
from moltide.chem.standardise import ChemistryOptions
from moltide.errors import CheckpointError, ConfigError
from moltide.kinds import MOLECULE
from moltide.pretrained.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from moltide.encoder import Encoder

CONFIG, HEAD, MODEL = "config.json", "head.safetensors", "model"
FORMAT, VERSION = "moltide-assay-model", 1
_OURS = (CONFIG, HEAD, DOMAIN, ADAPTER_CONFIG, ADAPTER_WEIGHTS, MODEL, BACKBONE)
_SHOWN = 4


def save(
    model: AssayModel, folder: str | os.PathLike[str], extra: Mapping[str, Any] | None = None
) -> None:
    """Write `model` into `folder` (made if missing); `extra` joins config.json.

    A folder whose writing was interrupted has no config.json and does not load.

    Raises:
        ConfigError: the folder holds something else than a saved model.
        OSError: folder not writable, disk full; no file is left half written.
    """
    import moltide

    path = Path(folder)
    _refuse_foreign(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / CONFIG).unlink(missing_ok=True)
    save_weights(model, path)
    document = {
        "format": FORMAT,
        "format_version": VERSION,
        "moltide": moltide.__version__,
        "model": describe(model),
        **(extra or {}),
    }
    atomic_write_text(path / CONFIG, json.dumps(document, indent=2) + "\n")


def _refuse_foreign(path: Path) -> None:
    """Refuse a folder of other files. An earlier model may be replaced, whole or left without its
    config.json by a save that was cut short, but not a run with its report and predictions."""
    listed = path.iterdir() if path.is_dir() else ()
    names = sorted(one.name for one in listed if not one.name.startswith("."))
    other = [name for name in names if name not in _OURS]
    document: Any = None
    if CONFIG in names:
        with contextlib.suppress(ValueError, OSError):
            document = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        saved = isinstance(document, dict) and document.get("format") == FORMAT
        fine = saved and "identity" not in document
    else:
        saved, fine = False, not other and (not names or HEAD in names)
    if not fine:
        what = f"a run of finetune ({CONFIG})" if saved else ", ".join((other or names)[:_SHOWN])
        raise ConfigError(
            f"{path} holds {what} and no model of an estimator's save; choose another folder"
        )


def describe(model: AssayModel) -> dict[str, Any]:
    """The "model" part of config.json."""
    kind = model.encoder.tokenizer.kind
    return {
        **model.spec.to_dict(),
        "adapter": model.mode,
        "head": model.encoder.head,
        "backbone": model.backbone,
        **({"chemistry": asdict(model.chemistry)} if kind == MOLECULE else {}),
    }


def save_weights(model: AssayModel, path: Path) -> None:
    """Everything but config.json."""
    encoder = model.encoder
    for stale in (MODEL, BACKBONE):
        shutil.rmtree(path / stale, ignore_errors=True)
    if model.adapter is not None:
        encoder.save_adapter(model.adapter, path)
    if model.mode == "full":
        _save_published(encoder, path / MODEL)
    elif _needs_copy(model.backbone):
        _save_published(encoder, path / BACKBONE)
    arrays: dict[str, np.ndarray] = {
        name: np.asarray(encoder.model.get_parameter(name))
        for name, _ in encoder.model.parameters()
        if name.startswith("head.")
    }
    arrays["scaling.mean"], arrays["scaling.sd"] = model.scaling.mean, model.scaling.sd
    arrays["temperature"] = model.temperature
    if model.shift is not None:
        arrays["shift"] = model.shift
    if model.recalibration is not None:
        line = model.recalibration
        arrays["recalibration.slope"], arrays["recalibration.offset"] = line.slope, line.offset
    if model.distribution is not None:
        arrays["distribution"] = model.distribution
    parts = {
        "uncertainty": {} if model.uncertainty is None else model.uncertainty.arrays(),
        "domain": save_domain(model.domain, path),
        "sets": {} if model.sets is None else model.sets.arrays(),
        "target_domains": model.target_domains.arrays(),
    }
    for prefix, part in parts.items():
        arrays.update({f"{prefix}.{name}": array for name, array in part.items()})
    write_arrays(path / HEAD, arrays, {"format": "pt"})


def _save_published(encoder: Any, folder: Path) -> None:
    from moltide.pretrained.families import family_named
    from moltide.pretrained.saving import save as save_encoder

    kind = family_named(encoder._family).architecture_for(encoder.config, None, None)
    save_encoder(encoder, folder, "bf16" if _fits_bf16(encoder) else "float32", kind)


def _fits_bf16(encoder: Any) -> bool:
    """Whether all weights lose nothing in half the size, as those of bundled models."""
    # bf16 is the upper half of float32.
    return not any(
        np.ascontiguousarray(encoder.model.get_parameter(name)).view(np.uint16)[..., ::2].any()
        for name, _ in encoder.model.parameters()
        if not name.startswith(("head.", "adapters."))
    )


def _needs_copy(reference: Mapping[str, Any]) -> bool:
    """Whether the name may not lead to these weights on another day: it is none, or that of a
    bundled model, which is small and changes between versions."""
    from moltide.pretrained.locate import bundled_names, locate

    name = str(reference.get("name") or "")
    if not name or not reference.get("by_name") or name in bundled_names():
        return True
    try:
        locate(name, local_files_only=True)
    except CheckpointError:
        return True
    return False


def load(folder: str | os.PathLike[str], device: str = "auto", dtype: str = "auto") -> AssayModel:
    """Read what `save` wrote.

    Args:
        dtype: "auto": as it was trained.

    Raises:
        FileNotFoundError: no such folder.
        CheckpointError: no assay model, unfinished, damaged, or its backbone is gone or changed.
    """
    path = Path(folder)
    document = read_config(path)
    described = document["model"]
    try:
        spec = ModelSpec.from_dict(described)
        mode, head, backbone = described["adapter"], described["head"], described["backbone"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path / CONFIG}: the model's {error} is missing") from error
    used = backbone if dtype == "auto" else {**backbone, "dtype": dtype}
    arrays = _read_head(path)
    if mode == "full":
        from moltide.pretrained import load as load_encoder

        encoder = load_encoder(path / MODEL, device, used["dtype"])
    else:
        encoder = _reload(path, used, device)
    if mode == "lora":
        encoder.load_adapter(path, ADAPTER)
    encoder.set_head(head)
    for name, _ in encoder.model.parameters():
        if name.startswith("head."):
            if name not in arrays:
                raise CheckpointError(f"{path / HEAD}: no tensor {name!r}")
            encoder.model.set_parameter(name, arrays[name])
    uncertainty, domain = _part(arrays, "uncertainty."), _part(arrays, "domain.")
    sets, line = _part(arrays, "sets."), _part(arrays, "recalibration.")
    whole = load_domain(domain, path)
    return AssayModel(
        encoder,
        spec,
        mode,
        ADAPTER if mode == "lora" else None,
        TargetScaling(arrays["scaling.mean"], arrays["scaling.sd"]),
        arrays["temperature"],
        Uncertainty.from_arrays(uncertainty) if uncertainty else None,
        whole,
        backbone,
        arrays.get("shift"),
        ClassSets.from_arrays(sets) if sets else None,
        arrays.get("distribution"),
        TargetDomains.from_arrays(_part(arrays, "target_domains."), whole),
        ChemistryOptions(**described.get("chemistry", {})),
        Recalibration(**line) if line else None,
    )


def load_backbone(
    folder: str | os.PathLike[str], device: str = "auto", dtype: str = "auto"
) -> Encoder:
    """The backbone that the adapter in `folder` belongs to.

    Args:
        dtype: "auto": as it was trained.

    Raises:
        FileNotFoundError, CheckpointError: see `load`.
    """
    path = Path(folder)
    reference = read_config(path)["model"]["backbone"]
    if dtype != "auto":
        reference = {**reference, "dtype": dtype}
    return _reload(path, reference, device)


def _reload(path: Path, reference: dict[str, Any], device: str) -> Encoder:
    copied = path / BACKBONE if (path / BACKBONE).is_dir() else None
    return reload_backbone(reference, path, device, copied)


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a saved model.

    Raises:
        FileNotFoundError, CheckpointError: see `load`.
    """
    if not path.exists():
        raise FileNotFoundError(f"no such folder: {path}")
    file = path / CONFIG
    if not file.is_file():
        unfinished = (path / "checkpoint").is_dir()
        why = "the command that started the run resumes it" if unfinished else "no model here"
        raise CheckpointError(f"{path}: no {CONFIG}, so no finished fine-tuning run; {why}")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: damaged ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(
            f"{file}: this is no fine-tuned assay model; moltide.load reads published encoders"
        )
    if document.get("format_version") != VERSION:
        raise CheckpointError(
            f"{file}: format version {document.get('format_version')}, this moltide reads {VERSION}"
        )
    if not isinstance(document.get("model"), dict):
        raise CheckpointError(f"{file}: damaged (no description of the model)")
    return document


def _read_head(path: Path) -> dict[str, np.ndarray]:
    if not (path / HEAD).is_file():
        raise CheckpointError(f"{path}: no {HEAD}; this is no finished fine-tuning run")
    return read_arrays(path / HEAD)[0]


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
