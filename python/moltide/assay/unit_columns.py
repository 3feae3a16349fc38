"""Columns beside a value that say its unit and what was measured, as ChEMBL exports them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from moltide.assay.profile import plain_name
from moltide.assay.source import Source
from moltide.assay.units import activity_name, molar_power
from moltide.assay.values import MISSING_WORDS

if TYPE_CHECKING:
    from moltide.assay.columns import Roles, Target

# Taken for units whatever they hold; others must hold concentrations.
_UNIT_NAMES = frozenset(["units", "standardunits", "activityunits", "valueunits", "publishedunits"])
_TYPE_NAMES = frozenset([
    "standardtype", "type", "activitytype", "resulttype", "measurementtype", "publishedtype",
])  # fmt: skip
# Names of columns of values that do not say what was measured.
_VALUE_NAMES = frozenset([
    "standardvalue", "value", "activityvalue", "activity", "result", "affinity", "publishedvalue",
])  # fmt: skip


def unit_column(source: Source, roles: Roles, target: Target, asked: str) -> str | None:
    """The column with the units of a target: the one asked for by name, one named after it
    (`IC50_units`, `Standard Units` of `Standard Value`), or the only one that holds any."""
    if asked and asked in source.columns:
        return asked
    used = {roles.sequence, roles.mutations, roles.wildtype, roles.record_id, roles.time}
    used |= {name for one in roles.targets for name in (*one.columns, one.relation)}
    free = [name for name in source.columns if name not in used]
    found = [name for name in free if roles.profiles[name].kind == "text" and _holds(source, name)]
    stem = re.sub(r"[\s_.-]*values?$", "", target.name, flags=re.IGNORECASE).lower()
    own = [name for name in found if re.search(rf"(^|[^a-z0-9]){re.escape(stem)}([^a-z0-9]|$)",
                                               name.lower())]  # fmt: skip
    numbers = [one for one in roles.targets if roles.profiles[one.columns[0]].kind == "number"]
    if len(own) == 1:
        return own[0]
    # Of several targets a column of units that is named after none may be anybody's.
    return found[0] if len(found) == 1 and len(numbers) == 1 else None


def _holds(source: Source, column: str) -> bool:
    filled = [text for text in source.texts(column) if text.lower() not in MISSING_WORDS]
    if len(set(filled)) > 50:
        return False
    molar = sum(molar_power(text) is not None for text in filled)
    return 2 * molar >= len(filled) > 0 or plain_name(column) in _UNIT_NAMES


def kind_of_measurement(source: Source, target: Target) -> tuple[str, str]:
    """(`IC50` and the like, what there is to say) of a column whose name tells only that it holds
    values, by the column beside it that names them; "" where there is none, or several kinds."""
    if plain_name(target.name) not in _VALUE_NAMES:
        return "", ""
    found = [name for name in source.columns if plain_name(name) in _TYPE_NAMES]
    prefix = plain_name(target.name).removesuffix("value")
    found = [name for name in found if plain_name(name).startswith(prefix)] or found
    if len(found) != 1:
        return "", ""
    kinds = dict.fromkeys(text for text in source.texts(found[0]) if text)
    if len(kinds) > 1:
        listed = ", ".join(map(repr, list(kinds)[:6]))
        return "", (
            f"column {found[0]!r} names {len(kinds)} kinds of measurement ({listed}): they are "
            f"taken together as {target.name!r}; keep the rows of one kind to tell them apart"
        )
    return activity_name(next(iter(kinds), "")), ""
