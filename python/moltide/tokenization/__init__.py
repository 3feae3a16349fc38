"""Text to token ids, as published models read it.

`base.Tokenizer` is what the rest of the package asks of a tokenizer. Residues are read by
`moltide.tokenizer`, molecule-mini's SMILES by `moltide.smiles_tokenizer`; here are the regular
expressions over SMILES (`smiles_pattern`), nucleotides (`nucleotides`), and whatever else the
`tokenizers` library reads (`library`).
"""
