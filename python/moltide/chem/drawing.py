"""Structures as SVG elements that read well on light and dark pages, in RDKit's hand."""

from __future__ import annotations

import html
import re
from typing import Any

WIDTH, HEIGHT = 240, 160
# Behind atoms in which two molecules differ; readable under black and white lines.
_MARK = (0.93, 0.62, 0.42)
# Larger molecules are drawn as they are: what they share takes too long to find.
_LARGEST, _SECONDS = 70, 2
# What says nothing but the default.
_NEEDLESS = re.compile(
    r" class='[^']*'|fill-rule:evenodd;|;stroke-linecap:butt|;stroke-linejoin:miter|stroke:none;|"
    r";stroke-opacity:1(?=['; ])|font-style:normal;|font-weight:normal;|fill-opacity:1;"
)
_BLACK = re.compile(r"#000000\b")


def draw(smiles: str, marked: list[int] | None = None, molecule: Any = None) -> str:
    """An SVG element of a molecule RDKit can read; `marked` atoms stand out, `molecule` is its
    RDKit form where there is one, with the coordinates to draw."""
    from rdkit import Chem
    from rdkit.Chem.Draw import rdMolDraw2D

    molecule = molecule or Chem.MolFromSmiles(smiles)
    # Without FreeType letters stay text.
    canvas = rdMolDraw2D.MolDraw2DSVG(WIDTH, HEIGHT, -1, -1, True)
    options: Any = canvas.drawOptions()
    options.clearBackground = False
    options.useBWAtomPalette()
    options.bondLineWidth = 1.3
    options.fixedBondLength = 22
    options.minFontSize = options.maxFontSize = 10
    atoms = marked or []
    colours = dict.fromkeys(atoms, _MARK)
    rdMolDraw2D.PrepareAndDrawMolecule(
        canvas, molecule, highlightAtoms=atoms, highlightAtomColors=colours, highlightBonds=[]
    )
    canvas.FinishDrawing()
    _, _, inner = canvas.GetDrawingText().partition("<!-- END OF HEADER -->")
    inner = _BLACK.sub("currentColor", _NEEDLESS.sub("", inner.partition("</svg>")[0].strip()))
    return (
        f'<svg class="molecule" role="img" aria-label="{html.escape(smiles)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">{inner}</svg>'
    )


def draw_pair(a: str, b: str) -> tuple[str, str]:
    """Two molecules in the same pose, what they do not share marked."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDepictor, rdFMCS
    from rdkit.Geometry import Point2D

    first, second = Chem.MolFromSmiles(a), Chem.MolFromSmiles(b)
    if max(first.GetNumAtoms(), second.GetNumAtoms()) > _LARGEST:
        return draw(a), draw(b)
    with rdBase.BlockLogs():
        shared = rdFMCS.FindMCS(
            [first, second], timeout=_SECONDS, ringMatchesRingOnly=True, completeRingsOnly=True
        )
    core = Chem.MolFromSmarts(shared.smartsString) if shared.numAtoms >= 3 else None
    own = () if core is None else first.GetSubstructMatch(core)
    other = () if core is None else second.GetSubstructMatch(core)
    if not own or not other:
        return draw(a), draw(b)
    rdDepictor.Compute2DCoords(first)
    pose = first.GetConformer()
    places = {
        j: Point2D(pose.GetAtomPosition(i).x, pose.GetAtomPosition(i).y)
        for i, j in zip(own, other, strict=True)
    }
    rdDepictor.Compute2DCoords(second, coordMap=places)
    marked = [
        sorted(set(range(molecule.GetNumAtoms())) - set(match))
        for molecule, match in ((first, own), (second, other))
    ]
    return draw(a, marked[0], first), draw(b, marked[1], second)
