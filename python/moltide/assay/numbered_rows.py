"""Rows of a file or list by the numbers that a person would look up."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from moltide.errors import DataError


class NumberedRows:
    """Where data rows stand: `name` is the file's, `first_row` the number of the first row;
    `renamed` has the headers of columns that share theirs with an earlier one, `broken` by index
    why a row's structure could not be read from the file."""

    name: str
    first_row: int
    renamed: dict[str, str]
    broken: Mapping[int, str] = MappingProxyType({})

    def row(self, index: int) -> int:
        """The row number a person would look up for data row `index` (0-based)."""
        return index + self.first_row

    def fail(self, message: str) -> DataError:
        renamed = [
            f"; {new!r} stands for the second column called {old!r}"
            for new, old in self.renamed.items()
            if repr(new) in message
        ]
        return DataError(f"{self.name}: {message}{''.join(renamed)}")
