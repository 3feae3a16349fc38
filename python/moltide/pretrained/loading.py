"""`moltide.load`: from a name to an Encoder."""

from __future__ import annotations

import os

from moltide.encoder import Encoder
from moltide.errors import ConfigError
from moltide.options import option
from moltide.pretrained.checkpoint import read_checkpoint
from moltide.pretrained.families import own_tokenizer, reads_of
from moltide.pretrained.locate import locate
from moltide.pretrained.vocabulary import read_tokenizer


def load(
    name_or_path: str | os.PathLike[str],
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
) -> Encoder:
    """Load a published encoder.

    Args:
        name_or_path: a folder, the name of a bundled model, or a Hub id ("owner/name").
        device: "auto" or "cpu".
        dtype: arithmetic of activations: "float32", "bf16", or "auto" (float32 on the CPU).
            Weights are kept in float32 either way, whatever dtype the file has. "int8", for
            inference alone, rounds weights (per output) and inputs (per token) of the matrix
            products to 8 bits and computes the rest in bf16 where the processor has instructions
            for it, else in float32; `Encoder.int8_cost` measures what that costs.
        revision: branch, tag or commit on the Hub.
        cache_dir: folder for downloads; default is huggingface_hub's.
        token: access token for gated and private models; default is HF_TOKEN or the stored login.
        local_files_only: never go to the network; default follows HF_HUB_OFFLINE.

    Raises:
        CheckpointError: nothing of that name, no permission, offline and not cached, or files that
            are corrupt, of another model type, contradict each other, or hold NaN or infinite
            weights. Nothing is kept of a checkpoint that fails.
        ConfigError: another device or dtype.
    """
    check_device(device)
    if dtype not in ("auto", "float32", "bf16", "int8"):
        raise ConfigError(
            f"{option('dtype')} is {dtype!r}; allowed: 'auto', 'float32', 'bf16', 'int8'"
        )
    files = locate(
        name_or_path,
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        local_files_only=local_files_only,
    )
    checkpoint = read_checkpoint(files)
    tokenizer = own_tokenizer(
        checkpoint.family, files, checkpoint.config, checkpoint.published, checkpoint.notes
    ) or read_tokenizer(
        files,
        checkpoint.config,
        checkpoint.notes,
        checkpoint.published.get("vocab_list"),
        reads_of(checkpoint.family),
    )
    return Encoder.from_checkpoint(
        checkpoint,
        tokenizer,
        name=os.fspath(name_or_path),
        dtype="float32" if dtype == "auto" else dtype,
    )


def check_device(device: str) -> None:
    """Refuse a device this build cannot compute on.

    Raises:
        ConfigError: "cuda", which this version has no backend for, or an unknown name.
    """
    if device in ("auto", "cpu"):
        return
    if device.split(":")[0] in ("cuda", "gpu"):
        raise ConfigError(
            f"{option('device')} is {device!r}: this build of moltide has no CUDA backend; "
            f"use {option('device', 'cpu')} (or 'auto')"
        )
    raise ConfigError(f"{option('device')} is {device!r}; allowed: 'auto', 'cpu'")
