"""RUN/: whether it may be written, whether a run in it is new, to be resumed, or done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from moltide.assay_model.backbone import BACKBONE
from moltide.assay_model.files import CONFIG, FORMAT, HEAD, MODEL
from moltide.assay_model.molecule_domain import FILE as DOMAIN
from moltide.atomic import atomic_write_text
from moltide.errors import ConfigError
from moltide.options import option
from moltide.pretrained.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

LOG, REPORT, SPLIT = "log.jsonl", "report.html", "split.csv"
PREDICTIONS, METRICS = "predictions.csv", "metrics.json"
ACCOUNT, DUPLICATES = "account.csv", "duplicates.csv"
CLIFFS = "activity_cliffs.csv"
_CHECKPOINT, _IDENTITY = "checkpoint", "run.json"
_OURS = (
    *(CONFIG, HEAD, ADAPTER_CONFIG, ADAPTER_WEIGHTS, LOG, REPORT, SPLIT, PREDICTIONS, METRICS),
    *(ACCOUNT, DUPLICATES, CLIFFS, DOMAIN, MODEL, BACKBONE, _CHECKPOINT),
)
_SHOWN = 4
# Names in the identity that are no options.
_WORDS = {
    "data.sha256": "other rows or values",
    "data.targets": "other targets",
    "split_sha256": "other parts of the split",
    "backbone_sha256": "other weights of the backbone",
    "valid_sha256": "other validation sequences",
}
# Names that follow from others (which may be prefixes): those say what was changed.
_FOLLOWS = {
    "settings.alpha": ("settings.rank",),
    "split_sha256": ("data.", "table.", "split", "settings.seed"),
    "data.sha256": ("data.targets", "table."),
    "data.targets": ("table.",),
    # The rest is what new weights are made from (pretraining).
    "backbone_sha256": (
        "backbone",
        "config",
        "layers",
        "width",
        "heads",
        "ffn_width",
        "init",
        "seed",
    ),
}


class RunFolder:
    """RUN/ with its files.

    `state` is "new", "resume" (an interrupted run of the same identity) or "finished" (the same
    run, done). A subclass names the files of another kind of run: `files`, those of the model that
    have temporary names of their own (`prefixes`), and the one that is written last (`done`), with
    its `format`, and what a new run finds in its checkpoint folder before it begins (`prepared`).
    """

    files: ClassVar[tuple[str, ...]] = _OURS
    prefixes: ClassVar[tuple[str, ...]] = (
        "train",
        "curve-",
        "alone-",
        "baselines",
        "rows",
        "vocab",
        "tokenizer",
    )
    done: ClassVar[str] = CONFIG
    format: ClassVar[str] = FORMAT
    prepared: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.identity = json.loads(json.dumps(identity))
        self.state = "new"
        self._made: list[Path] = []

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    @property
    def checkpoint(self) -> Path:
        """RUN/checkpoint/: what an interrupted run needs; gone when it is done."""
        return self.path / _CHECKPOINT

    def file(self, name: str) -> Path:
        return self.path / name

    def refuse_foreign(self, overwrite: bool) -> None:
        """Refuse, without writing, what can be refused before the identity of the run is known.

        Raises:
            ConfigError: the folder holds other files and no run, without `overwrite`.
            OSError: not a folder.
        """
        _check_folder(self.path)
        if overwrite or not self.path.exists() or self._found() is not None:
            return
        foreign = sorted(one.name for one in self.path.iterdir() if self._is_foreign(one.name))
        if foreign:
            raise ConfigError(
                f"{self.path} is not empty ({', '.join(foreign[:_SHOWN])}) and holds no run; "
                f"choose another folder, or {option('overwrite', True)}"
            )

    def check(self, overwrite: bool) -> None:
        """Find out `state`, without writing.

        Raises:
            ConfigError: the folder holds another run (what differs is listed) or other files.
            OSError: not a folder.
        """
        self.refuse_foreign(overwrite)
        found = self._found()
        changes = [] if found is None else differences(found, self.identity)
        if overwrite and (changes or self.state == "finished"):
            self.state = "new"
        elif changes:
            raise self._refusal(changes)

    def open(self, overwrite: bool) -> None:
        """`check`, and for a new or resumed run make the folder and its checkpoint folder; of a
        finished one, what a kill left of the checkpoint is removed.

        What the folder holds stays until `begin`. An interrupted run of the same identity is
        resumed, `overwrite` or not: the command that started it by overwriting another is the
        command that resumes it.

        Raises:
            ConfigError: the folder holds another run (what differs is listed) or other files.
            OSError: not a folder, or not writable.
        """
        self.check(overwrite)
        if self.state == "finished":
            self.finish()
            return
        self._made = [one for one in (self.checkpoint, self.path) if not one.exists()]
        check_writable(self.path)
        self.checkpoint.mkdir(exist_ok=True)

    def begin(self) -> None:
        """The run can start: a new one takes the place of what the folder holds.

        Raises:
            OSError: not writable, disk full.
        """
        if self.state == "new":
            self._clear()
            text = json.dumps({"identity": self.identity}, indent=2) + "\n"
            atomic_write_text(self.checkpoint / _IDENTITY, text)
        else:
            self._clear_temporary()

    def finish(self) -> None:
        """Drop the checkpoint of a run whose results are all written."""
        self._forget()
        shutil.rmtree(self.checkpoint, ignore_errors=True)

    def _forget(self) -> None:
        """The identity goes first: after a kill, the rest does not pass for an interrupted run."""
        with contextlib.suppress(OSError):
            (self.checkpoint / _IDENTITY).unlink()

    def discard(self) -> None:
        """Take back what `open` made for a new run that cannot begin."""
        if self.checkpoint in self._made:
            self.finish()
        if self.path in self._made:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def _found(self) -> dict[str, Any] | None:
        """The identity of the run in the folder; sets `state`."""
        for file, state in (
            (self.checkpoint / _IDENTITY, "resume"),
            (self.path / self.done, "finished"),
        ):
            if not file.is_file():
                continue
            try:
                document = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                continue
            if not isinstance(document, dict) or "identity" not in document:
                continue
            if state == "finished" and document.get("format") != self.format:
                continue
            self.state = state
            identity = document["identity"]
            return identity if isinstance(identity, dict) else {}
        return None

    def _refusal(self, changes: list[str]) -> ConfigError:
        shown = "; ".join(changes[:_SHOWN])
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        what = "an interrupted run" if self.state == "resume" else "a finished run"
        return ConfigError(
            f"{self.path} holds {what} with other settings or data: {shown}{more}. Use the same to "
            f"go on, another {option('out')}, or {option('overwrite', True)} to start again"
        )

    def _clear(self) -> None:
        """Remove what a run writes; other files stay."""
        # The last one first: without it, what is left does not pass for a finished run.
        for name in (self.done, *self.files):
            if name != _CHECKPOINT:
                _remove(self.path / name)
        self._forget()
        for one in self.checkpoint.iterdir():
            if one.name not in self.prepared:
                _remove(one)
        self._clear_temporary()

    def _clear_temporary(self) -> None:
        """Remove what a kill left of a file being written."""
        for folder in self._written():
            if folder.is_dir():
                for one in folder.iterdir():
                    if one.name.startswith(".") and self._is_ours(one.name):
                        _remove(one)

    def _written(self) -> tuple[Path, ...]:
        """Folders in which a kill may leave a file half written."""
        return (self.path, self.checkpoint, self.path / MODEL, self.path / BACKBONE)

    def _is_foreign(self, name: str) -> bool:
        """Whether a folder without a run is refused for a file of this name."""
        return not self._is_ours(name)

    def _is_ours(self, name: str) -> bool:
        """Whether a run writes a file of this name, or a temporary one on the way to it."""
        if name in self.files:
            return True
        known = (*self.files, *self.prefixes, _IDENTITY, "moltide-")
        return name.startswith(tuple(f".{one}" for one in known))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Make the folder if it is missing and write an empty file in it, which is removed again.

    Raises:
        OSError: naming the folder.
    """
    _check_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".moltide-", dir=path)
    os.close(handle)
    with contextlib.suppress(OSError):
        os.unlink(name)


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; {option('out')} is a folder")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One "option old -> new" for each option that differs in two identities.

    What follows from an option (the parts of the split from the seed, say) is left out beside it.
    """
    changed = dict(_changed(old, new))
    for effect, causes in _FOLLOWS.items():
        if any(name.startswith(causes) for name in changed if name != effect):
            changed.pop(effect, None)
    found = []
    for name, (before, after) in changed.items():
        if name in _WORDS:
            found.append(_WORDS[name])
            continue
        called = option(name.rpartition(".")[2])
        found.append(f"{called} {_short(before)} -> {_short(after)}")
    return found


def _changed(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """(dotted name, (old, new)) of each value that differs in two JSON documents."""
    if isinstance(old or new, Mapping) and isinstance(new or old, Mapping):
        before, after = old or {}, new or {}
        for key in sorted({*before, *after}):
            inner = f"{name}.{key}" if name else str(key)
            yield from _changed(before.get(key), after.get(key), inner)
    elif old != new:
        yield name, (old, new)


def _short(value: Any) -> str:
    if value is None:
        return "(not given)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
