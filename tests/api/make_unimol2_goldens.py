"""Writes tests/data/unimol2_tiny: a tiny random Uni-Mol2 with its published tensor names, molecules
with conformers, and what unimol_tools computes of them.

    pip install --no-deps --target FOLDER unimol_tools==0.1.6
    python tests/api/make_unimol2_goldens.py FOLDER

Needs torch, RDKit and SciPy; the tests that read the files need RDKit alone. The package's own
modules are run, its `__init__` files (which import its trainers) are not. Each molecule is a batch
of its own: published code scales products of pairs by the padded length.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from safetensors.torch import save_file

OUT = Path(__file__).parent.parent / "data" / "unimol2_tiny"
SIZES = {
    "num_encoder_layers": 3,
    "encoder_embed_dim": 16,
    "num_attention_heads": 4,
    "ffn_embedding_dim": 16,
    "pair_embed_dim": 12,
    "pair_hidden_dim": 5,
}
DROPOUT = {"dropout": 0.1, "attention_dropout": 0.1, "pair_dropout": 0.25}
# Stereo, charges, rings, a triple bond, two parts, a radical, a hydride, one atom alone.
SMILES = [
    "C[C@H](N)C(=O)[O-]",
    "F/C=C/c1ccc2[nH]ccc2c1",
    "C#CC[N+](C)(C)C.[Cl-]",
    "[CH2]CS(=O)(=O)OP",
    "O",
]


class Dict(dict[str, Any]):
    """What the package takes from addict: fields as attributes."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


def published(folder: str) -> tuple[Any, Any]:
    """unimol_tools' model and featuriser."""
    sys.path.insert(0, folder)
    for name in ("", ".data", ".models", ".utils", ".config", ".weights"):
        package = types.ModuleType("unimol_tools" + name)
        package.__path__ = [str(Path(folder, "unimol_tools", *name.split(".")))]
        sys.modules[package.__name__] = package
    sys.modules["addict"] = types.ModuleType("addict")
    sys.modules["addict"].Dict = Dict  # type: ignore[attr-defined]
    # Without numba the package's own stand-in leaves shortest paths out.
    sys.modules["numba"] = types.ModuleType("numba")
    sys.modules["numba"].njit = lambda function: function  # type: ignore[attr-defined]
    config, weights = sys.modules["unimol_tools.config"], sys.modules["unimol_tools.weights"]
    settings = importlib.import_module("unimol_tools.config.model_config")
    config.MODEL_CONFIG = settings.MODEL_CONFIG  # type: ignore[attr-defined]
    config.MODEL_CONFIG_V2 = settings.MODEL_CONFIG_V2  # type: ignore[attr-defined]
    for name in ("get_weight_dir", "weight_download", "weight_download_v2"):
        setattr(weights, name, None)
    helpers = importlib.import_module("unimol_tools.utils.util")
    utils = sys.modules["unimol_tools.utils"]
    for name in ("pad_1d_tokens", "pad_2d", "pad_coords"):
        setattr(utils, name, getattr(helpers, name))
    utils.logger = types.SimpleNamespace(info=print, warning=print)  # type: ignore[attr-defined]
    model = importlib.import_module("unimol_tools.models.unimolv2")
    return model, importlib.import_module("unimol_tools.data.conformer")


def build(module: Any) -> Any:
    usual = module.molecule_architecture
    module.molecule_architecture = lambda model_size: Dict(
        usual(model_size=model_size)
        | SIZES
        | {"encoder_attention_heads": SIZES["num_attention_heads"]}
    )
    module.UniMolV2Model.load_pretrained_weights = lambda self, path: None
    torch.manual_seed(7)
    model = module.UniMolV2Model(output_dim=1, pretrained_model_path="none").eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2 and "gaussian" not in name:
                p.normal_(0, 0.3)
            elif "norm" in name and name.endswith("weight"):
                p.normal_(1, 0.2)
            elif name.endswith("bias"):
                p.normal_(0, 0.1)
        model.se3_invariant_kernel.gaussian.mul.weight.normal_(0, 0.5)
        model.se3_invariant_kernel.gaussian.bias.weight.normal_(0, 0.2)
    return model


def molecule(smiles: str) -> Any:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
    return mol


def main() -> None:
    OUT.mkdir(exist_ok=True)
    module, conformer = published(sys.argv[1])
    model = build(module)
    golden: dict[str, torch.Tensor] = {}
    values = torch.tensor([0.3, -1.0, 2.0, 0.7, 0.1])
    blocks, losses, hidden = [], [], []
    model.encoder.register_forward_hook(lambda *call: hidden.append(call[2][0][0]))
    for index, smiles in enumerate(SMILES):
        mol = molecule(smiles)
        blocks.append(Chem.MolToMolBlock(mol))
        # As a reader sees it, rounded coordinates and stereochemistry included.
        mol = Chem.MolFromMolBlock(blocks[-1], removeHs=False)
        features = conformer.mol2unimolv2(mol, remove_hs=True)
        for name in ("atom_feat", "degree", "edge_feat", "shortest_path"):
            golden[f"{index}.{name}"] = torch.from_numpy(np.array(features[name], dtype=np.int32))
        batch, _ = model.batch_collate_fn([(features, 0.0)])
        batch["src_coord"] = batch["src_coord"].float()
        out = model(**batch)
        losses.append((out[0, 0] - values[index]) ** 2)
    loss = torch.stack(losses).mean()
    loss.backward()
    golden |= {"targets": values, "loss": loss}
    golden |= {f"{index}.hidden": one for index, one in enumerate(hidden)}
    golden |= {f"grad.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    save_file({k: v.detach().contiguous() for k, v in golden.items()}, OUT / "golden.safetensors")
    weights = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, OUT / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "unimol2", "architectures": ["UniMolV2Model"], **SIZES, **DROPOUT}
    (OUT / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (OUT / "molecules.json").write_text(json.dumps(blocks, indent=1) + "\n")


if __name__ == "__main__":
    main()
