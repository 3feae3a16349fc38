"""A corpus on disk: letters end to end and offsets, read through the page cache.

Built once, whole or not at all, so that shuffling is exact and memory does not grow with the
residues; what stays in memory is a few numbers a record.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from moltide.atomic import atomic_write_text, naming, publish
from moltide.errors import DataError
from moltide.kinds import MOLECULE
from moltide.options import option
from moltide.pretraining.descriptors import COUNT
from moltide.pretraining.reading import Columns, Records, change_notes, read_records
from moltide.pretraining.symbols import Symbols

_FORMAT = "moltide-corpus-2"
_INFO, _SKIPPED, _NAMES = "corpus.json", "skipped.csv", "names.txt"
# Array -> its dtype; the last two are there where a column was named.
_ARRAYS = {
    "letters": "u1",
    "offsets": "<i8",
    "rows": "<i8",
    "files": "<i4",
    "clusters": "<u8",
    "weights": "<f8",
    "descriptors": "<f4",
}
_LISTED = 5


class Corpus:
    """Records of a corpus folder.

    Attributes:
        letters: (residues,) all records end to end as `symbols` writes them: proteins as uint8,
            upper-case ASCII; molecules and RNA as their tokens.
        offsets: (N + 1,) int64: record i is letters[offsets[i]:offsets[i + 1]].
        rows, files: (N,) where each record stood: row (FASTA: number) and index in `sources`.
        clusters: (N,) uint64 that stand for the cluster's name, or None.
        weights: (N,) float64, or None.
        molecule_of: (N,) which molecule each record is a SMILES of.
        info: what building counted; `sha256` of the content is in it.
    """

    def __init__(self, folder: Path, symbols: Symbols) -> None:
        self.folder, self.symbols = folder, symbols
        self.info: dict[str, Any] = json.loads((folder / _INFO).read_text(encoding="utf-8"))
        self.letters = self._array("letters")
        self.offsets = self._array("offsets")
        self.rows = self._array("rows")
        self.files = self._array("files")
        self.clusters = self._array("clusters") if self.info["clusters"] else None
        self.weights = self._array("weights") if self.info["weights"] else None

    @cached_property
    def molecule_of(self) -> npt.NDArray[np.int64]:
        rows, files = np.asarray(self.rows), np.asarray(self.files)
        first = np.ones(len(rows), dtype=bool)
        first[1:] = (rows[1:] != rows[:-1]) | (files[1:] != files[:-1])
        return np.cumsum(first) - 1

    @cached_property
    def descriptors(self) -> Any:
        """(molecules, COUNT) float32, where the corpus was asked for them."""
        return self._array("descriptors").reshape(-1, COUNT)

    def _array(self, name: str) -> Any:
        dtype = self.symbols.dtype if name == "letters" else _ARRAYS[name]
        return np.memmap(self.folder / name, dtype=dtype, mode="r")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def residues(self) -> int:
        return len(self.letters)

    @property
    def sha256(self) -> str:
        """Of letters, offsets, clusters, weights and descriptors."""
        return str(self.info["sha256"])

    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) residues of each record."""
        return np.asarray(np.diff(self.offsets), dtype=np.int64)

    def text(self, record: int) -> str:
        """The residues, nucleotides or SMILES of a record."""
        return self.symbols.decode(self.letters[self.offsets[record] : self.offsets[record + 1]])

    def names(self, wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
        """(record, name) of the records that are `wanted`, in order."""
        with (self.folder / _NAMES).open(encoding="utf-8") as stream:
            for record, line in enumerate(stream):
                if wanted[record]:
                    yield record, line.rstrip("\n")

    def skipped_csv(self) -> str:
        """file, row, name and reason of every record left out."""
        return (self.folder / _SKIPPED).read_text(encoding="utf-8")

    def lines(self) -> list[str]:
        """What was read and what was left out, for a person."""
        info = self.info
        sources = ", ".join(info["sources"])
        what, unit = self.symbols.records, self.symbols.unit
        said = [f"{sources}: {len(self):,} {what}, {self.residues:,} {unit}"]
        if info["written"] > 1:
            said[0] = (
                f"{sources}: {info['molecules']:,} {what} in {len(self):,} SMILES, "
                f"{self.residues:,} {unit}"
            )
        said += change_notes(info["changes"], self.symbols.kind)
        if info["skipped"]:
            shown = "; ".join(info["first_skipped"])
            more = info["skipped"] - len(info["first_skipped"])
            rest = f"; and {more:,} more" if more else ""
            said.append(f"records left out: {info['skipped']:,} ({shown}{rest})")
        return said


def open_corpus(
    paths: Sequence[Path],
    hashes: Sequence[str],
    columns: Columns,
    symbols: Symbols,
    parent: Path,
    *,
    known: Sequence[Path] = (),
    shortest: int = 1,
    on_bad_row: str = "set_aside",
    progress: Callable[[int], None] | None = None,
) -> Corpus:
    """The corpus of these files, built in `parent` unless it is there, or in `known`, already.

    A corpus is found again by the names and contents of its files and by the other arguments.

    Args:
        hashes: `sha256_of` each file.
        known: folders that are looked in and not written to.
        on_bad_row: "set_aside" leaves unusable records out and counts them; "error" refuses.
        progress: told the records read so far.

    Raises:
        DataError: no usable record, or (on_bad_row="error") one that is not.
        ConfigError, FileNotFoundError: see `read_records`.
        OSError: `parent` is not writable, or the disk is full; nothing is left behind.
    """
    key = _key(paths, hashes, columns, symbols, shortest, on_bad_row)
    name = f"corpus-{key[:16]}"
    for place in (parent, *known):
        if _whole(place / name, key):
            return Corpus(place / name, symbols)
    folder = parent / name
    parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".corpus-", dir=parent))
    try:
        with naming(folder):
            writer = _Writer(staging, columns, symbols, shortest, on_bad_row, progress)
            for index, path in enumerate(paths):
                writer.add_file(index, path)
            writer.finish(key, [path.name for path in paths])
        if folder.exists():
            shutil.rmtree(folder)
        publish(staging)
        os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Corpus(folder, symbols)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _key(
    paths: Sequence[Path],
    hashes: Sequence[str],
    columns: Columns,
    symbols: Symbols,
    shortest: int,
    on_bad_row: str,
) -> str:
    files = [[path.name, digest] for path, digest in zip(paths, hashes, strict=True)]
    wanted = list(dataclasses.astuple(columns))
    document = [_FORMAT, files, wanted, symbols.key, shortest, on_bad_row]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _whole(folder: Path, key: str) -> bool:
    """Whether a corpus of this key is there, with the sizes that it was written with."""
    try:
        info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
        return bool(info["key"] == key) and all(
            (folder / name).stat().st_size == size for name, size in info["bytes"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


class _Writer:
    """Streams records into a folder."""

    def __init__(
        self,
        folder: Path,
        columns: Columns,
        symbols: Symbols,
        shortest: int,
        on_bad_row: str,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.folder, self.columns, self.shortest = folder, columns, shortest
        self.symbols, self.on_bad_row, self.progress = symbols, on_bad_row, progress
        absent = {name for name in ("clusters", "weights") if not getattr(columns, name[:-1])}
        if columns.kind == MOLECULE:
            absent.discard("clusters")
        if not columns.descriptors:
            absent.add("descriptors")
        self.streams: dict[str, IO[bytes]] = {
            name: (folder / name).open("wb") for name in _ARRAYS if name not in absent
        }
        self.hashes = {name: hashlib.sha256() for name in self.streams}
        self.names = (folder / _NAMES).open("w", encoding="utf-8")
        self.skip_stream = (folder / _SKIPPED).open("w", encoding="utf-8", newline="")
        self.skip_writer = csv.writer(self.skip_stream)
        self.skip_writer.writerow(["file", "row", "name", "reason"])
        self.records = self.molecules = self.end = self.skipped = 0
        self.first_skipped: list[str] = []
        self.changes: dict[str, int] = {}
        self._put("offsets", [0])

    def add_file(self, index: int, path: Path) -> None:
        try:
            for block in read_records(path, self.columns, self.shortest):
                self._add(index, path.name, block)
        except BaseException:
            self._close()
            raise

    def _add(self, index: int, file: str, block: Records) -> None:
        for row, name, reason in block.skipped:
            if self.on_bad_row == "error":
                # A row of a table has its number for a name.
                called = "" if name == str(row) else f" ({name})"
                raise DataError(
                    f"{file}, {block.unit} {row}{called}: {reason}; correct it, or leave such "
                    f"{block.unit}s out ({option('on_bad_row', 'set_aside')})"
                )
            self.skip_writer.writerow([file, row, name, reason])
            if len(self.first_skipped) < _LISTED:
                self.first_skipped.append(f"{file} {block.unit} {row}: {reason}")
        self.skipped += len(block.skipped)
        for name, count in block.changes.items():
            self.changes[name] = self.changes.get(name, 0) + count
        letters, lengths = self.symbols.encode(block.texts)
        self._put("letters", letters)
        self._put("offsets", self.end + np.cumsum(lengths))
        self._put("rows", block.rows)
        self._put("files", np.full(len(lengths), index))
        if block.clusters is not None:
            self._put("clusters", [_cluster_number(name) for name in block.clusters])
        if block.weights is not None:
            self._put("weights", block.weights)
        if block.descriptors is not None:
            self._put("descriptors", block.descriptors)
        self.names.writelines(" ".join(name.split()) + "\n" for name in block.names)
        self.end += int(lengths.sum())
        self.records += len(lengths)
        self.molecules += len(np.unique(block.rows))
        if self.progress is not None:
            self.progress(self.records + self.skipped)

    def _put(self, name: str, values: Any) -> None:
        dtype = self.symbols.dtype if name == "letters" else _ARRAYS[name]
        data = np.asarray(values, dtype=dtype).tobytes()
        self.streams[name].write(data)
        self.hashes[name].update(data)

    def finish(self, key: str, sources: list[str]) -> None:
        self._close()
        if not self.records:
            said = f" ({'; '.join(self.first_skipped)})" if self.skipped else ""
            raise DataError(
                f"{', '.join(sources)}: no {self.symbols.records[:-1]} to use; {self.skipped:,} "
                f"records left out{said}"
            )
        whole = hashlib.sha256()
        for name in ("letters", "offsets", "clusters", "weights", "descriptors"):
            whole.update(self.hashes[name].digest() if name in self.hashes else b"-")
        info = {
            "format": _FORMAT,
            "key": key,
            "sha256": whole.hexdigest(),
            "sources": sources,
            "records": self.records,
            "molecules": self.molecules,
            "written": 1 + self.columns.augment,
            "residues": self.end,
            "clusters": "clusters" in self.streams,
            "scaffolds": self.columns.kind == MOLECULE and self.columns.cluster is None,
            "weights": "weights" in self.streams,
            "skipped": self.skipped,
            "first_skipped": self.first_skipped,
            "changes": self.changes,
            "bytes": {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())},
        }
        atomic_write_text(self.folder / _INFO, json.dumps(info, indent=1) + "\n")

    def _close(self) -> None:
        streams: list[IO[Any]] = [*self.streams.values(), self.names, self.skip_stream]
        for stream in streams:
            if not stream.closed:
                stream.flush()
                os.fsync(stream.fileno())
                stream.close()


def _cluster_number(name: str) -> int:
    """64 bits of a hash: no dictionary of names needs to fit into memory."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
