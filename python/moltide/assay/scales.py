"""Targets brought to one unit, and on request to a logarithm; nothing is changed unasked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moltide.assay.ledger import Ledger, problems_text, shorten
from moltide.assay.options import ReadOptions
from moltide.assay.source import Source
from moltide.assay.transforms import LOG10, NONE, PLOG, TRANSFORMS, Scale
from moltide.assay.unit_columns import kind_of_measurement, unit_column
from moltide.assay.units import activity_name, is_logarithm, molar_power, plain_unit, unit_in_name
from moltide.errors import ConfigError
from moltide.kinds import MOLECULE
from moltide.options import option
from moltide.wording import plural

if TYPE_CHECKING:
    from moltide.assay.columns import Roles, Target
    from moltide.assay.measure import Readings

UNKNOWN_UNIT = "unit not known"
NO_LOGARITHM = "value without a logarithm"
# From this ratio of the 95th to the 5th percentile a logarithm is worth a hint.
_WIDE = 100.0

_MASS = re.compile(r"[munpµ]?g\b|[munpµ]g")

Units = npt.NDArray[np.object_]


class Scales:
    """What was asked of the targets of numbers, by target.

    Raises:
        ConfigError: an unknown transform or target, or a unit for several targets at once.
    """

    def __init__(
        self, source: Source, targets: Sequence[Target], options: ReadOptions, kind: str
    ) -> None:
        self.source, self.options, self.kind = source, options, kind
        self.targets = list(targets)
        self._transforms = self._by_target("transform", options.transform)
        self._units = self._by_target("unit", options.unit)
        for transform in self._transforms.values():
            if transform not in TRANSFORMS:
                raise ConfigError(
                    f"{option('transform')} is {transform!r}; allowed: {', '.join(TRANSFORMS)}"
                )
        open_ = [one.name for one in self.targets if not is_logarithm(unit_in_name(one.name)[0])]
        if "" in self._units and len(open_) > 1 and self._units[""] not in source.columns:
            unit = self._units[""]
            raise ConfigError(
                f"{option('unit')} is {unit!r} for several targets "
                f"({', '.join(map(repr, open_))}); say whose it is "
                f"({option('unit', f'{open_[0]}={unit}')})"
            )
        self.used = False
        self._assumed = 0

    def _by_target(self, name: str, value: str | Mapping[str, str] | None) -> dict[str, str]:
        """Target -> value; "" stands for every target."""
        if value is None:
            return {}
        if isinstance(value, str) and "=" not in value:
            return {"": value.strip()}
        pairs: Any = value.items() if isinstance(value, Mapping) else _pairs(name, value)
        known = {column: one.name for one in self.targets for column in [one.name, *one.columns]}
        found: dict[str, str] = {}
        for target, what in pairs:
            if target not in known:
                raise ConfigError(
                    f"{option(name)} names {target!r}, which is no target of numbers; those in "
                    f"use: {', '.join(one.name for one in self.targets) or 'none'}"
                )
            found[known[target]] = str(what)
        return found

    def apply(self, readings: Readings, roles: Roles, ledger: Ledger) -> None:
        """Bring the readings of a target to one unit and transform them; `readings.scale` says how,
        and the target takes the name of what it holds now.

        Raises:
            DataError: values that cannot be brought there, unless such rows are to be set aside;
                several units in a column and no word on what to do about it.
            ConfigError: a transform that the target's values do not have.
        """
        target = readings.target
        asked = self._units.get(target.name, self._units.get("", ""))
        named = target.name in self._transforms
        transform = self._transforms.get(target.name, self._transforms.get("", NONE))
        logarithm = is_logarithm(unit_in_name(target.name)[0])
        if logarithm and asked and asked not in self.source.columns:
            if target.name in self._units or len(self.targets) == 1:
                raise ConfigError(
                    f"target {target.name!r} is a logarithm by its name, and has no "
                    f"{option('unit', asked)}"
                )
            asked = ""
        column = unit_column(self.source, roles, target, asked)
        if column is not None and asked == column:
            asked = ""
        wanted = plain_unit(asked) if asked else ""
        units = self._units_of(readings, column)
        known = ~np.isnan(readings.values) & ledger.alive[:, None]
        counts = Counter(units[known].tolist())
        told = Counter({unit: n for unit, n in counts.items() if unit})
        if logarithm and target.relation is not None and not named:
            readings.said.append(
                f"relations in {target.relation!r} are read as those of {target.name!r} itself; "
                "if they are of a concentration, name its column as the target, with "
                f"{option('transform', PLOG)}"
            )
        if transform != NONE and logarithm:
            if named or len(self.targets) == 1:
                raise ConfigError(
                    f"target {target.name!r} is a logarithm by its name; "
                    f"{option('transform', transform)} would take it twice"
                )
            transform = NONE
        elif transform == PLOG and not self._concentrations(told, wanted):
            if named or len(self.targets) == 1:
                seen = ", ".join(map(repr, told)) or "none"
                raise self.source.fail(
                    f"target {target.name!r}: {option('transform', PLOG)} needs a unit of "
                    f"concentration (M, mM, uM, nM, pM); found: {seen}. Say it with "
                    f"{option('unit', 'nM')}, or name the column that has it"
                )
            transform = NONE
        self.used |= transform != NONE
        self._assumed = 0
        base = self._base_name(target, readings)
        if transform == NONE and not wanted and len(told) > 1 and not logarithm:
            raise self._several(target, told, column)
        to = self._unit_for(transform, wanted, told)
        if logarithm and not wanted:
            to = ""
        readings.scale = Scale("+".join(target.columns), transform, to)
        # Without a unit anywhere there is nothing to bring anywhere.
        by_row = column is not None or any(readings.cell_units)
        if to and (by_row or wanted or transform == PLOG or len(told) > 1):
            self._convert(readings, units, known, ledger, assumed=wanted)
        if transform != NONE:
            self._take_logarithm(readings, ledger)
        self._say(readings, base, column, told, wanted)
        if transform != NONE:
            target.name = self._new_name(target, readings.scale, base)

    def finish(self) -> None:
        """Refuse a transform that no target has taken."""
        if self._transforms.get("", NONE) != NONE and not self.used:
            raise ConfigError(
                f"{option('transform', self._transforms[''])}: no target has values for it "
                f"({', '.join(repr(one.name) for one in self.targets) or 'none is of numbers'})"
            )

    def _units_of(self, readings: Readings, column: str | None) -> Units:
        """(rows, columns of the target): the unit of each cell, "" where none is told."""
        units: Units = np.full(readings.values.shape, "", dtype=object)
        label = unit_in_name(readings.target.name)[1]
        for j, name in enumerate(readings.target.columns):
            units[:, j] = unit_in_name(name)[1] or label
        if column is not None:
            spelt = {text: plain_unit(text) for text in set(self.source.texts(column))}
            own = np.array([spelt[text] for text in self.source.texts(column)], dtype=object)
            units = np.where((own != "")[:, None], own[:, None], units)
        for j, cells in enumerate(readings.cell_units):
            for index, unit in cells.items():
                units[index, j] = unit
        return units

    @staticmethod
    def _concentrations(told: Counter[str], wanted: str) -> bool:
        return any(molar_power(unit) is not None for unit in [*told, wanted] if unit)

    @staticmethod
    def _unit_for(transform: str, wanted: str, told: Counter[str]) -> str:
        """What values are brought to: mol/L, as asked, or what most have."""
        if transform == PLOG:
            return "M"
        molar = [(n, unit) for unit, n in told.items() if molar_power(unit) is not None]
        most = max(molar)[1] if molar else next(iter(dict(told.most_common())), "")
        return wanted or most

    def _several(self, target: Target, told: Counter[str], column: str | None) -> Exception:
        where = f" (column {column!r})" if column else ""
        listed = ", ".join(f"{unit} {n:,}" for unit, n in told.most_common(6))
        best = self._unit_for(NONE, "", told)
        return self.source.fail(
            f"target {target.name!r} has values in several units{where}: {listed}. Bring them to "
            f"one ({option('unit', best)}), or take -log10 of mol/L ({option('transform', PLOG)})"
        )

    def _convert(
        self,
        readings: Readings,
        units: Units,
        known: npt.NDArray[np.bool_],
        ledger: Ledger,
        assumed: str,
    ) -> None:
        """Values to `readings.scale.unit`; rows whose unit does not lead there are problems."""
        to = readings.scale.unit
        power = molar_power(to)
        problems: dict[int, str] = {}
        for unit in sorted({*units[known].tolist()}):
            cells = known & (units == unit)
            own = unit or assumed
            if not own:
                problems.update(dict.fromkeys(_rows(cells), "no unit"))
                continue
            self._assumed += 0 if unit else int(cells.sum())
            from_ = molar_power(own)
            if own == to and readings.scale.transform != PLOG:
                continue
            if from_ is None or power is None:
                why = f"unit {shorten(own)} cannot be brought to {to}"
                if _MASS.match(own):
                    why += " without the molecular weight of what was weighed"
                problems.update(dict.fromkeys(_rows(cells), why))
                continue
            if readings.scale.transform == PLOG:
                # Subtracted from the logarithm: 10 nM is 8 to the last bit.
                readings.powers[cells] = from_
            else:
                readings.values[cells] = _times_power(readings.values[cells], from_ - power)
        self._refuse(readings, problems, UNKNOWN_UNIT, ledger)

    def _take_logarithm(self, readings: Readings, ledger: Ledger) -> None:
        values = readings.values
        low = (values <= 0) & ledger.alive[:, None]
        problems = {
            int(i): f"{values[i, low[i]][0]:g} is not above 0: it has no logarithm"
            for i in np.flatnonzero(low.any(axis=1))
        }
        self._refuse(readings, problems, NO_LOGARITHM, ledger)
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.log10(np.where(values > 0, values, np.nan))
        if readings.scale.transform == PLOG:
            readings.values = np.asarray(-(logs + readings.powers), np.float64)
            # What is above 10 uM has a p value below 5.
            readings.censor = (-readings.censor).astype(np.int8)
        else:
            readings.values = logs

    def _refuse(
        self, readings: Readings, problems: Mapping[int, str], reason: str, ledger: Ledger
    ) -> None:
        problems = {i: why for i, why in sorted(problems.items()) if ledger.alive[i]}
        if problems and self.options.on_bad_row == "error":
            listed = problems_text([(self.source.row(i), why) for i, why in problems.items()])
            unit = ""
            if "no unit" in problems.values():
                unit = f"say the unit of those without one ({option('unit', 'nM')}), "
            raise self.source.fail(
                f"target {readings.target.name!r}: values that cannot be used in "
                f"{readings.scale.words}: {plural(len(problems), 'row')} ({listed}); correct them, "
                f"{unit}or leave these rows out ({option('on_bad_row', 'set_aside')})"
            )
        ledger.leave_out(problems, reason, problems)

    def _base_name(self, target: Target, readings: Readings) -> str:
        base = unit_in_name(target.name)[0]
        kind, note = kind_of_measurement(self.source, target)
        if note:
            readings.said.append(note)
        return activity_name(base) or kind or base

    def _new_name(self, target: Target, scale: Scale, base: str) -> str:
        taken = {one.name for one in self.targets if one is not target}
        name = scale.name_of(base)
        return name if name not in taken else f"{name} ({scale.column})"

    def _say(
        self,
        readings: Readings,
        base: str,
        column: str | None,
        told: Counter[str],
        wanted: str,
    ) -> None:
        """What was found, what was done, and what is worth asking for."""
        scale, said, name = readings.scale, readings.said, readings.target.name
        if not scale.unit and scale.transform == NONE:
            self._hint_at_logarithm(readings)
            return
        listed = ", ".join(f"{unit} {n:,}" for unit, n in told.most_common(6))
        where = f"column {column!r}" if column else "its name"
        if any(readings.cell_units):
            where = "the cells"
        if told:
            said.append(f"unit of {name!r}: {listed} (by {where})")
        if wanted and self._assumed and told:
            said.append(
                f"{plural(self._assumed, 'value')} of {name!r} without a unit: {wanted} (given)"
            )
        elif wanted and not told:
            said.append(f"unit of {name!r}: {wanted} (given)")
        if scale.transform != NONE:
            turned = scale.transform == PLOG and readings.censor.any()
            said.append(
                f"{name!r} is taken as {scale.name_of(base)!r}: {scale.words}"
                + ("; bounds are turned round" if turned else "")
            )
        elif len(told) > 1 or (wanted and told and wanted not in told):
            said.append(f"{name!r} is brought to {scale.unit}")
        if scale.transform == NONE and molar_power(scale.unit) is not None:
            name = Scale(scale.column, PLOG, "M").name_of(base)
            said.append(
                f"hint: {option('transform', PLOG)} takes -log10 of mol/L ({name!r}), which models "
                "of concentrations are better fitted to"
            )
        elif scale.transform == NONE:
            self._hint_at_logarithm(readings)

    def _hint_at_logarithm(self, readings: Readings) -> None:
        values = readings.values[~np.isnan(readings.values)]
        name = readings.target.name
        if self.kind != MOLECULE or len(values) < 20 or is_logarithm(unit_in_name(name)[0]):
            return
        low, high = np.quantile(values, (0.05, 0.95))
        if values.min() > 0 and high > _WIDE * low:
            readings.said.append(
                f"hint: {name!r} spans {np.log10(high / low):.1f} powers of ten; "
                f"{option('transform', LOG10)} takes its logarithm"
            )


def _pairs(name: str, text: str) -> list[tuple[str, str]]:
    pairs = []
    for part in text.split(","):
        target, equals, what = part.rpartition("=")
        if not equals or not target.strip() or not what.strip():
            raise ConfigError(
                f"{option(name)} is {text!r}; allowed: one word for all targets, or TARGET=WORD "
                "with commas between"
            )
        pairs.append((target.strip(), what.strip()))
    return pairs


def _rows(cells: npt.NDArray[np.bool_]) -> list[int]:
    return [int(i) for i in np.flatnonzero(cells.any(axis=1))]


def _times_power(values: npt.NDArray[np.float64], power: int) -> npt.NDArray[np.float64]:
    """`values` times a power of ten; dividing keeps negative powers exact."""
    scaled: npt.NDArray[np.float64] = values * 10.0**power if power >= 0 else values / 10.0**-power
    return scaled
