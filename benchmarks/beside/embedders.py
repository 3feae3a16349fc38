"""Engines that embed: each `load_*` returns a function from sequences to (N, C) float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from workload import padded, token_rows

from beside.exports import checkpoint_folder, onnx_file, openvino_file

Embedder = Callable[[list[str]], np.ndarray]


def load_embedder(engine: str, dtype: str, how: str, size: str, folder: str, threads: int):
    return {
        "moltide": _moltide,
        "Transformers": _transformers,
        "torch.compile": _transformers,
        "ONNX Runtime": _onnxruntime,
        "OpenVINO": _openvino,
    }[engine](engine, dtype, how, size, Path(folder), threads)


def _moltide(engine, dtype: str, how: str, size: str, folder: Path, threads: int) -> Embedder:
    import moltide

    moltide.set_num_threads(threads)
    return moltide.load(checkpoint_folder(folder, size), dtype=dtype).embed


def _transformers(engine: str, dtype: str, how: str, size: str, folder, threads: int) -> Embedder:
    import torch
    from transformers import EsmModel

    torch.set_num_threads(threads)
    attention = "eager" if how.startswith("eager") else "sdpa"
    model = EsmModel.from_pretrained(
        checkpoint_folder(folder, size), add_pooling_layer=False, attn_implementation=attention,
        dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
    ).eval()  # fmt: skip
    forward = torch.compile(model, dynamic=True) if engine == "torch.compile" else model

    def hidden(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            out = forward(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        return out.last_hidden_state.float().numpy()

    return _in_batches(hidden, how)


def _onnxruntime(engine, dtype: str, how: str, size: str, folder: Path, threads: int) -> Embedder:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx_file(folder, size, dtype), options, providers=["CPUExecutionProvider"]
    )

    def hidden(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    return _in_batches(hidden, how)


def _openvino(engine, dtype: str, how: str, size: str, folder: Path, threads: int) -> Embedder:
    import openvino

    compiled = openvino.Core().compile_model(
        openvino_file(folder, size),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bf16": "bf16"}[dtype],
            "ENABLE_CPU_PINNING": False,
        },
    )
    request = compiled.create_infer_request()

    def hidden(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return request.infer({"input_ids": ids, "attention_mask": mask})[0].astype(np.float32)

    return _in_batches(hidden, how)


def _in_batches(hidden, how: str) -> Embedder:
    """Means over residues (without <cls> and <eos>), batches made as `how` says."""
    size = 8 if "batch 8" in how else 1

    def embed(sequences: list[str]) -> np.ndarray:
        rows = token_rows(sequences)
        order = list(range(len(rows)))
        if "sorted" in how:
            order.sort(key=lambda i: -len(rows[i]))
        out: list[np.ndarray] = [np.empty(0)] * len(rows)
        for start in range(0, len(rows), size):
            batch = order[start : start + size]
            values = hidden(*padded([rows[i] for i in batch]))
            for i, value in zip(batch, values, strict=True):
                out[i] = value[1 : len(rows[i]) - 1].mean(axis=0)
        return np.stack(out)

    return embed
