"""Structures of SDF records (V2000 and V3000): SMILES, or the reason why there is none."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from moltide.chem.fingerprints import require_rdkit
from moltide.chem.parts import in_parts
from moltide.chem.standardise import plain_reason


def smiles_of_blocks(
    blocks: Sequence[str], workers: int | None = None
) -> Iterator[list[tuple[str, str]]]:
    """For each molblock (SMILES, ""), or ("", reason in RDKit's words), a part at a time.

    Raises:
        MissingDependencyError: without RDKit.
    """
    require_rdkit()
    yield from in_parts(_part, blocks, workers)


def _part(blocks: Sequence[str]) -> list[tuple[str, str]]:
    from rdkit import Chem, rdBase

    found = []
    for block in blocks:
        with rdBase.BlockLogs():
            molecule = Chem.MolFromMolBlock(block)
        if molecule is None:
            found.append(("", _why(block)))
        elif molecule.GetNumAtoms() == 0:
            found.append(("", "no atom"))
        else:
            found.append((Chem.MolToSmiles(molecule), ""))
    return found


def _why(block: str) -> str:
    from rdkit import Chem, rdBase

    if "M  END" not in block:
        return "no structure (there is no line 'M  END')"
    with rdBase.BlockLogs():
        molecule = Chem.MolFromMolBlock(block, sanitize=False)
        problems = [] if molecule is None else Chem.DetectChemistryProblems(molecule)
    if problems:
        return plain_reason(problems[0].Message())
    said = _said_by_rdkit(block)
    return plain_reason(said) if said else "unreadable structure"


def _said_by_rdkit(block: str) -> str:
    """The first line that RDKit logs on a block it cannot parse."""
    from rdkit import Chem, rdBase

    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage().strip())

    logger = logging.getLogger("rdkit")
    before, propagate = logger.handlers, logger.propagate
    rdBase.LogToPythonLogger()
    # RDKit's own handler writes to standard error.
    logger.handlers, logger.propagate = [Keep()], False
    try:
        Chem.MolFromMolBlock(block)
    finally:
        logger.handlers, logger.propagate = before, propagate
        rdBase.LogToCppStreams()
    return next((line for line in lines if line), "")
