"""What a target's numbers are, once units and logarithms are dealt with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moltide.assay.units import activity_name, unit_in_name

NONE, PLOG, LOG10 = "none", "plog", "log10"
#: plog: -log10 of mol/L, and bounds turned round; log10: of the values in their unit.
TRANSFORMS = (NONE, PLOG, LOG10)


@dataclass(frozen=True)
class Scale:
    """How a target's values came from its `column` (`+` between several).

    Attributes:
        transform: one of `TRANSFORMS`.
        unit: of the values, before a logarithm is taken; "" where it is not known.
    """

    column: str
    transform: str = NONE
    unit: str = ""

    @property
    def words(self) -> str:
        """Such as `-log10 of mol/L`, `log10 of nM`, `nM`."""
        if self.transform == PLOG:
            return "-log10 of mol/L"
        if self.transform == LOG10:
            return f"log10 of {self.unit}" if self.unit else "log10 of the values"
        return self.unit or "the values as they stand"

    def unit_beside(self, name: str) -> str:
        """The unit to show behind a name: none where the name has it, or of a logarithm."""
        return "" if self.logarithmic or unit_in_name(name)[1] else self.unit

    @property
    def logarithmic(self) -> bool:
        return self.transform != NONE

    def name_of(self, base: str) -> str:
        """What the values are called: `pIC50`, `p_activity`, `log10_CL_uM`."""
        if self.transform == PLOG:
            activity = activity_name(base)
            return f"p{activity}" if activity else f"p_{base}"
        if self.transform == LOG10:
            return f"log10_{base}" + (f"_{self.unit}" if self.unit else "")
        return base

    def to_dict(self) -> dict[str, str]:
        return {"column": self.column, "transform": self.transform, "unit": self.unit}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scale:
        return cls(str(values["column"]), str(values["transform"]), str(values["unit"]))
