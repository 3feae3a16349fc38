"""Peers' model files, made from our checkpoint: ONNX (float32, int8) and OpenVINO's."""

from __future__ import annotations

from pathlib import Path


def checkpoint_folder(folder: Path, size: str) -> Path:
    return folder / f"esm2-{size}"


def onnx_file(folder: Path, size: str, dtype: str) -> Path:
    return folder / f"esm2-{size}-{dtype}.onnx"


def openvino_file(folder: Path, size: str) -> Path:
    return folder / f"esm2-{size}.xml"


def is_made(folder: Path, size: str, engine: str) -> bool:
    """Whether all that `engine` reads beside the checkpoint is there."""
    if engine == "ONNX Runtime":
        return onnx_file(folder, size, "int8").exists()
    return engine != "OpenVINO" or openvino_file(folder, size).exists()


def make_files(folder: Path, size: str, engine: str) -> None:
    """Make what `engine` reads; takes several times the model's memory."""
    {"ONNX Runtime": _make_onnx, "OpenVINO": _make_openvino}[engine](folder, size)


def _traceable(folder: Path, size: str):
    """(module, example inputs, dynamic shapes) for torch.export."""
    import torch
    from transformers import EsmModel

    class Hidden(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            out = self.model(input_ids=input_ids, attention_mask=attention_mask)
            return out.last_hidden_state

    model = EsmModel.from_pretrained(
        checkpoint_folder(folder, size), add_pooling_layer=False, attn_implementation="sdpa"
    )
    ids = torch.randint(4, 24, (2, 64))
    mask = torch.ones_like(ids)
    mask[1, 40:] = 0
    free = {
        0: torch.export.Dim("batch", min=1, max=64),
        1: torch.export.Dim("tokens", min=8, max=1024),
    }
    return Hidden(model.eval()), (ids, mask), {"input_ids": free, "attention_mask": free}


def _make_openvino(folder: Path, size: str) -> None:
    import openvino
    import torch

    module, example, shapes = _traceable(folder, size)
    # torch.export keeps ScaledDotProductAttention whole; the way through ONNX takes it apart.
    program = torch.export.export(module, example, dynamic_shapes=shapes)
    path = openvino_file(folder, size)
    making = path.with_name("making-" + path.name)
    openvino.save_model(openvino.convert_model(program), making, compress_to_fp16=False)
    making.with_suffix(".bin").rename(path.with_suffix(".bin"))
    making.rename(path)


def _make_onnx(folder: Path, size: str) -> None:
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    module, example, shapes = _traceable(folder, size)
    path = onnx_file(folder, size, "float32")
    torch.onnx.export(
        module, example, path, dynamo=True, dynamic_shapes=shapes, external_data=False,
        input_names=["input_ids", "attention_mask"], output_names=["hidden"], opset_version=20,
        verbose=False,
    )  # fmt: skip
    making = path.with_name("making-" + path.name)
    quantize_dynamic(path, making, weight_type=QuantType.QInt8, per_channel=True)
    making.rename(onnx_file(folder, size, "int8"))
