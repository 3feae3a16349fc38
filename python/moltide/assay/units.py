"""Units of concentration as chemists write them, in cells, beside them, and in column names."""

from __future__ import annotations

import re

# Powers of ten of one mol/L.
_PREFIXES = {"": 0, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15}
_WORDS = {
    "molar": "M", "millimolar": "mM", "micromolar": "uM", "nanomolar": "nM", "picomolar": "pM",
    "femtomolar": "fM",
}  # fmt: skip
_MOLAR = re.compile(r"([munpf]?)(?:M|mol(?:/l|/L|\.l-1|\.L-1| l-1| L-1|/dm3))")
# "nm" and "um" beside a measured value are typed by people without a shift key; "mm" and "m" may
# be lengths, and "PM" is no unit that a table of concentrations should guess at.
_CARELESS = {"nm": "nM", "um": "uM", "NM": "nM", "UM": "uM", "Nm": "nM", "Um": "uM"}
# A cell such as "10 nM" or ">2.5uM".
CELL_UNIT = r"[munpfµμ]?(?:M|mol/[lL])"
_BRACKETED = re.compile(r"[(\[{]\s*([^()\[\]{}]+?)\s*[)\]}]\s*$")
_TAIL = re.compile(r"[\s_.,:/-]+([munpfµμ]?M|[nu]m|[NU]M|[munpfµμ]?mol/[lL])$")
_ACTIVITY = re.compile(r"(ic|ec|ac|xc|gi|cc|ed|tc|lc|dc|sc|mic)(\d\d)", re.IGNORECASE)
_CONSTANT = re.compile(r"k([idbm])", re.IGNORECASE)
_LOGARITHM = re.compile(
    r"p(ic|ec|ac|xc|gi|cc|ed|tc|lc|dc|sc|mic)\d\d|pk[aidbm]|pmic|pchembl.*|pactivity|ppotency|"
    r"-?\s*(log|lg|ln)(10|2|e)?([\s_(\[.].*|[a-z]{1,2}\d{0,2}|sol.*|perm.*)",
    re.IGNORECASE,
)


def plain_unit(text: str) -> str:
    """A unit in one spelling: micro sign and Greek mu as `u`, words and careless case as symbols
    (`nM`); what is no molar unit comes back stripped."""
    unit = text.strip().strip("'\"").replace("µ", "u").replace("μ", "u")
    unit = _WORDS.get(unit.lower(), _CARELESS.get(unit, unit))
    match = _MOLAR.fullmatch(unit)
    return f"{match[1]}M" if match else unit


def molar_power(unit: str) -> int | None:
    """The power of ten of one `unit` in mol/L (-9 for nM), None for what is no molar unit."""
    match = _MOLAR.fullmatch(plain_unit(unit))
    return _PREFIXES[match[1]] if match else None


def unit_in_name(column: str) -> tuple[str, str]:
    """(name without its unit, the unit or "") of a column such as `IC50 (nM)`, `ic50_uM`.

    In brackets a unit is molar or has a `/` or `%`; at the end of a name only molar ones count.
    """
    bracketed = _BRACKETED.search(column)
    if bracketed:
        unit = plain_unit(bracketed[1])
        if molar_power(unit) is not None or "/" in unit or "%" in unit:
            return column[: bracketed.start()].strip(" _.,:-") or column, unit
        return column, ""
    tail = _TAIL.search(column)
    if tail and not is_logarithm(column):
        return column[: tail.start()].strip() or column, plain_unit(tail[1])
    return column, ""


def is_logarithm(name: str) -> bool:
    """Whether a name says that its numbers are logarithms already: `pIC50`, `logS`, `log10_x`."""
    return _LOGARITHM.fullmatch(name.strip()) is not None


def activity_name(name: str) -> str:
    """`IC50`, `Ki` and the like in their usual case, "" for other names."""
    word = name.strip()
    match = _ACTIVITY.fullmatch(word)
    if match:
        return f"{match[1].upper()}{match[2]}"
    constant = _CONSTANT.fullmatch(word)
    if constant:
        return f"K{constant[1].lower()}"
    return "MIC" if word.lower() == "mic" else ""
