"""Files of structures as tables: SDF (V2000, V3000) with its property fields, and SMILES lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from moltide.assay.text_tables import open_bytes, reading_table
from moltide.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SDF, SMI = "sdf", "smi"
_ENDINGS = {".sdf": SDF, ".sd": SDF, ".smi": SMI, ".smiles": SMI, ".ism": SMI}
_COMPRESSED = (".gz", ".bz2", ".xz")
_FIELD = re.compile(r">.*?<(.*)>")
_COUNTS = re.compile(rb".*V[23]000\s*")
_SMILES_HEADER = re.compile(r"[A-Za-z_ -]*smiles", re.IGNORECASE)
# A file with more names of fields is no SDF.
_MOST_FIELDS = 10_000


@dataclass
class StructureFrame:
    """Some records: `structure` is the column of their SMILES, "" in `broken` ones, which have a
    reason by index; `first` is the number of the first record (or line)."""

    frame: pd.DataFrame
    structure: str
    first: int
    broken: dict[int, str] = field(default_factory=dict)


def structure_format(path: Path) -> str:
    """SDF or SMI by the name of a file, SDF also by its fourth line; "" for anything else."""
    suffixes = [one.lower() for one in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    found = _ENDINGS.get(suffixes[-1] if suffixes else "", "")
    if found == SMI and _has_header(path):
        return ""  # a table with names of columns, which says which is which
    if found:
        return found
    with reading_table(path.name), open_bytes(path) as stream:
        head = [stream.readline(300) for _ in range(4)]
    return SDF if _COUNTS.fullmatch(head[3]) else ""


def structure_frames(path: Path, kind: str, rows: int | None) -> Iterator[StructureFrame]:
    """The records of a file, at most `rows` at a time (None: all at once).

    Raises:
        DataError: an empty or damaged file.
        MissingDependencyError: SDF without RDKit.
    """
    with reading_table(path.name, "file of structures"):
        yield from (_sdf_frames if kind == SDF else _smi_frames)(path, rows)


def _has_header(path: Path) -> bool:
    with reading_table(path.name), open_bytes(path) as stream:
        first = _text(stream.readline())
    words = re.split(r"[\t,;]", first)
    return len(words) > 1 and _SMILES_HEADER.fullmatch(words[0].strip()) is not None


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _records(stream: IO[bytes]) -> Iterator[str]:
    """The text of each record, without its `$$$$`; a last one may lack it."""
    lines: list[bytes] = []
    for line in stream:
        if line.startswith(b"$$$$"):
            yield _text(b"".join(lines))
            lines = []
        else:
            lines.append(line)
    if any(line.strip() for line in lines):
        yield _text(b"".join(lines))


def _fields(record: str) -> dict[str, str]:
    """Property fields of a record; lines of one value are joined by spaces."""
    found: dict[str, str] = {}
    name = None
    plain = record.replace("\r\n", "\n")
    for line in plain[max(0, plain.find("M  END")) :].split("\n"):
        heading = _FIELD.match(line) if line.startswith(">") else None
        if heading:
            name = heading[1].strip()
            found.setdefault(name, "")
        elif not line.strip():
            name = None
        elif name is not None:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _names(path: Path) -> tuple[list[str], str, str]:
    """(property fields of all records by first appearance, the columns of structure and title)."""
    names: dict[str, None] = {}
    records = 0
    with open_bytes(path) as stream:
        for record in _records(stream):
            names.update(dict.fromkeys(_fields(record)))
            records += 1
            if len(names) > _MOST_FIELDS:
                raise DataError(f"{path.name}: more than {_MOST_FIELDS:,} fields: this is no SDF")
    if not records:
        raise DataError(f"{path.name}: no records")
    lower = {name.lower() for name in names}
    structure = next(n for n in ("smiles", "structure", "sdf_structure") if n not in lower)
    title = next(n for n in ("name", "title", "sdf_title") if n not in lower)
    return list(names), structure, title


def _sdf_frames(path: Path, rows: int | None) -> Iterator[StructureFrame]:
    names, structure, title = _names(path)
    first, records = 1, []
    with open_bytes(path) as stream:
        for record in _records(stream):
            records.append(record)
            if len(records) == rows:
                yield _sdf_frame(records, names, structure, title, first)
                first += len(records)
                records = []
    if records:
        yield _sdf_frame(records, names, structure, title, first)


def _sdf_frame(
    records: list[str], names: list[str], structure: str, title: str, first: int
) -> StructureFrame:
    import pandas as pd

    from moltide.chem.molblocks import smiles_of_blocks

    titles = [record.partition("\n")[0].strip() for record in records]
    blocks = [_block(record) for record in records]
    found = [one for part in smiles_of_blocks(blocks) for one in part]
    broken = {
        i: f"record {first + i} ({titles[i]!r}): {reason}"
        if titles[i]
        else f"record {first + i}: {reason}"
        for i, (_, reason) in enumerate(found)
        if reason
    }
    columns: dict[str, list[str]] = {structure: [smiles for smiles, _ in found], title: titles}
    fields = [_fields(record) for record in records]
    for name in names:
        columns[name] = [one.get(name, "") for one in fields]
    return StructureFrame(pd.DataFrame(columns, dtype=object), structure, first, broken)


def _block(record: str) -> str:
    """The structure of a record, up to and with its `M  END`."""
    head, end, _ = record.replace("\r\n", "\n").partition("M  END")
    return f"{head}{end}\n"


def _smi_frames(path: Path, rows: int | None) -> Iterator[StructureFrame]:
    first, lines = 1, []
    with open_bytes(path) as stream:
        for number, raw in enumerate(stream, 1):
            line = _text(raw).strip("\r\n")
            if number == 1 and _SMILES_HEADER.fullmatch((line.split() or [""])[0]):
                first = 2
                continue
            lines.append(line)
            if len(lines) == rows:
                yield _smi_frame(lines, first)
                first += len(lines)
                lines = []
    if lines:
        yield _smi_frame(lines, first)
    elif first <= 2:
        raise DataError(f"{path.name}: no lines of SMILES")


def _smi_frame(lines: list[str], first: int) -> StructureFrame:
    import pandas as pd

    parts = [line.split(None, 1) for line in lines]
    columns = {
        "smiles": [one[0] if one else "" for one in parts],
        "name": [one[1].strip() if len(one) > 1 else "" for one in parts],
    }
    return StructureFrame(pd.DataFrame(columns, dtype=object), "smiles", first)
