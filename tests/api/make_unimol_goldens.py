"""Writes tests/data/unimol_tiny: a tiny random Uni-Mol in its published form, and what unimol_tools
computes with it.

    pip install --no-deps --target FOLDER unimol_tools==0.1.6
    python tests/api/make_unimol_goldens.py FOLDER

Needs torch, RDKit and SciPy; the tests that read the files need none of them. The package's own
modules are run, its `__init__` files (which import its trainers) are not.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

OUT = Path(__file__).parent.parent / "data" / "unimol_tiny"
LAYERS, WIDTH, HEADS, FFN = 3, 32, 4, 48
ATOMS = (9, 3, 14, 1)
SYMBOLS = [
    *("C", "N", "O", "S", "H", "Cl", "F", "Br", "I", "Si", "P", "B", "Na", "K", "Al", "Ca", "Sn"),
    *("As", "Hg", "Fe", "Zn", "Cr", "Se", "Gd", "Au", "Li"),
]
DICTIONARY = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *SYMBOLS]


def published(folder: str):
    """unimol_tools' dictionary and pretraining model."""
    sys.path.insert(0, folder)
    for name in ("", ".data", ".models", ".pretrain", ".utils"):
        package = types.ModuleType("unimol_tools" + name)
        package.__path__ = [str(Path(folder, "unimol_tools", *name.split(".")))]
        sys.modules[package.__name__] = package
    helpers = importlib.import_module("unimol_tools.utils.util")
    for name in ("pad_1d_tokens", "pad_2d", "pad_coords"):
        setattr(sys.modules["unimol_tools.utils"], name, getattr(helpers, name))
    dictionary = importlib.import_module("unimol_tools.data.dictionary").Dictionary
    return dictionary, importlib.import_module("unimol_tools.pretrain.unimol")


def build(folder: str):
    dictionary_class, module = published(folder)
    text = OUT / "mol.dict.txt"
    text.write_text("\n".join(DICTIONARY) + "\n")
    dictionary = dictionary_class.load(str(text))
    dictionary.add_symbol("[MASK]", is_special=True)
    config = types.SimpleNamespace(
        encoder_layers=LAYERS,
        encoder_embed_dim=WIDTH,
        encoder_ffn_embed_dim=FFN,
        encoder_attention_heads=HEADS,
        emb_dropout=0.1,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        max_seq_len=512,
        activation_fn="gelu",
        delta_pair_repr_norm_loss=0.01,
        masked_token_loss=1,
        masked_coord_loss=5,
        masked_dist_loss=10,
    )
    torch.manual_seed(5)
    model = module.UniMolModel(config, dictionary).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 2 and not name.startswith("gbf."):
                p.normal_(0, 0.2)
            elif "norm.weight" in name:
                p.normal_(1, 0.2)
            elif name.endswith("bias"):
                p.normal_(0, 0.1)
        model.embed_tokens.weight[dictionary.pad()] = 0
        model.gbf.mul.weight.normal_(1, 0.2)
        model.gbf.bias.weight.normal_(0, 0.2)
        model.gbf.means.weight.uniform_(0, 6)
        model.gbf.stds.weight.uniform_(0.3, 2).mul_(torch.randn(1, 128).sign())
    return model, dictionary


def molecules(dictionary):
    """Random atoms at random places, as coords2unimol lays them out."""
    rng = np.random.default_rng(1)
    symbols, tokens, coordinates = [], [], []
    for n in ATOMS:
        chosen = [str(s) for s in rng.choice([*SYMBOLS[:9], "Xe"], n)]
        places = rng.normal(0, 2.5, (n, 3)).astype(np.float32)
        places -= places.mean(axis=0)
        ids = [dictionary.bos(), *(dictionary.index(s) for s in chosen), dictionary.eos()]
        symbols.append(chosen)
        tokens.append(np.array(ids))
        coordinates.append(np.concatenate([np.zeros((1, 3)), places, np.zeros((1, 3))]))
    return symbols, tokens, coordinates


def sample(tokens: np.ndarray, coordinates: np.ndarray, size: int) -> dict[str, torch.Tensor]:
    from scipy.spatial import distance_matrix

    return {
        "src_tokens": torch.from_numpy(tokens),
        "src_coord": torch.from_numpy(coordinates.astype(np.float32)),
        "src_distance": torch.from_numpy(
            distance_matrix(coordinates, coordinates).astype(np.float32)
        ),
        "src_edge_type": torch.from_numpy(tokens.reshape(-1, 1) * size + tokens.reshape(1, -1)),
    }


def main() -> None:
    OUT.mkdir(exist_ok=True)
    model, dictionary = build(sys.argv[1])
    symbols, tokens, coordinates = molecules(dictionary)
    targets = {"tgt_tokens": torch.zeros(1), "tgt_coordinates": torch.zeros(1, 3)}
    targets["tgt_distance"] = torch.zeros(1, 1)
    batch = model.batch_collate_fn(
        [(sample(t, c, len(dictionary)), targets) for t, c in zip(tokens, coordinates, strict=True)]
    )
    seen = {}
    model.encoder.register_forward_hook(lambda *call: seen.update(output=call[2]))
    logits = model(**batch["net_input"])[0]
    hidden, scores = seen["output"][:2]

    head = torch.nn.Linear(WIDTH, 1)
    values = torch.tensor([0.3, -1.0, 2.0, 0.7])
    loss = ((head(hidden[:, 0])[:, 0] - values) ** 2).mean()
    loss.backward()

    lengths = [len(t) for t in tokens]
    golden = {
        "tokens": torch.from_numpy(np.concatenate(tokens).astype(np.int32)),
        "coordinates": torch.from_numpy(np.concatenate(coordinates).astype(np.float32)),
        "lengths": torch.tensor(lengths, dtype=torch.int32),
        "hidden": torch.cat([h[:n] for h, n in zip(hidden, lengths, strict=True)]),
        "logits": torch.cat([x[:n] for x, n in zip(logits, lengths, strict=True)]),
        "probabilities": scores[0, : lengths[0], : lengths[0]].permute(2, 0, 1).softmax(-1),
        "targets": values,
        "loss": loss,
        "head.out.weight": head.weight,
        "head.out.bias": head.bias,
    }
    for name, p in model.named_parameters():
        if p.grad is not None:
            golden["grad." + name] = p.grad
    save_file({k: v.detach().contiguous() for k, v in golden.items()}, OUT / "golden.safetensors")
    save_file(
        {k: v.detach().contiguous() for k, v in model.state_dict().items()},
        OUT / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = {
        "model_type": "unimol",
        "architectures": ["UnimolForMaskedLM"],
        "data_type": "molecule",
        "remove_hs": False,
        "activation_fn": "gelu",
        "hidden_size": WIDTH,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_dropout_prob": 0.1,
        "attention_dropout_prob": 0.1,
        "vocab_size": len(dictionary),
        "bos_token_id": dictionary.bos(),
        "eos_token_id": dictionary.eos(),
        "pad_token_id": dictionary.pad(),
        "unk_token_id": dictionary.unk(),
        "conformer_mode": "fast",
        "conformer_seed": 42,
    }
    (OUT / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (OUT / "molecules.json").write_text(json.dumps(symbols) + "\n")


if __name__ == "__main__":
    main()
