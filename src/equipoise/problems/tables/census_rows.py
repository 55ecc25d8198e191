"""Rows of Census-Income (KDD): forty-two columns, checked, as codes and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from equipoise.problems.files import DataSet

# In the order of the file; names as the documentation of the UCI repository explains them.
COLUMNS = (
    "age",
    "class_worker",
    "det_ind_code",
    "det_occ_code",
    "education",
    "wage_per_hour",
    "hs_college",
    "marital_stat",
    "major_ind_code",
    "major_occ_code",
    "race",
    "hisp_origin",
    "sex",
    "union_member",
    "unemp_reason",
    "full_or_part_emp",
    "capital_gains",
    "capital_losses",
    "stock_dividends",
    "tax_filer_stat",
    "region_prev_res",
    "state_prev_res",
    "det_hh_fam_stat",
    "det_hh_summ",
    "instance_weight",
    "mig_chg_msa",
    "mig_chg_reg",
    "mig_move_reg",
    "mig_same",
    "mig_prev_sunbelt",
    "num_emp",
    "fam_under_18",
    "country_father",
    "country_mother",
    "country_self",
    "citizenship",
    "own_or_self",
    "vet_question",
    "vet_benefits",
    "weeks_worked",
    "year",
    "income_50k",
)
# With the largest value that can be; amounts of money are taken as log(1 + x).
NUMBERS = {
    "age": 120,
    "wage_per_hour": 99999,
    "capital_gains": 99999,
    "capital_losses": 99999,
    "stock_dividends": 99999,
    "num_emp": 6,
    "weeks_worked": 52,
}
MONEY = ("wage_per_hour", "capital_gains", "capital_losses", "stock_dividends")
INCOME = ("- 50000.", "50000+.")
# "At least college" of the MMoE paper, which does not say where that begins: of the lines that can be drawn,
# this one has the correlation with "never married" that the paper prints, see the page of the problem.
COLLEGE = (
    "Associates degree-occup /vocational",
    "Associates degree-academic program",
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
)
EDUCATION = (
    "Children",
    "Less than 1st grade",
    "1st 2nd 3rd or 4th grade",
    "5th or 6th grade",
    "7th and 8th grade",
    "9th grade",
    "10th grade",
    "11th grade",
    "12th grade no diploma",
    "High school graduate",
    "Some college but no degree",
    *COLLEGE,
)
MARRIED = (
    "Never married",
    "Married-civilian spouse present",
    "Married-spouse absent",
    "Married-A F spouse present",
    "Divorced",
    "Separated",
    "Widowed",
)
# Columns that have few values, which decide labels.
KNOWN = {"income_50k": INCOME, "education": EDUCATION, "marital_stat": MARRIED}


@dataclass(frozen=True)
class Column:
    """The column that a task's labels are made from, and what is a yes there."""

    name: str
    yes: tuple[str, ...]


LABELS = {
    "income": Column("income_50k", INCOME[1:]),
    "never_married": Column("marital_stat", MARRIED[:1]),
    "college": Column("education", COLLEGE),
}
# They say in words who never married ("Child 18+ never marr ..."), or who files with a spouse.
TELLING = ("det_hh_fam_stat", "det_hh_summ", "tax_filer_stat")


def table(
    path: Path, lines: Sequence[str], rows: NDArray[np.int64], data: DataSet
) -> dict[str, tuple[str, ...]]:
    """Cells of some rows, by column.

    Args:
        path: of the file, for errors.
        lines: of the file.
        rows: which ones, from 0.
        data: the data set.

    Raises:
        DataError: a row has not 42 cells, or one that labels are made from cannot be right.
    """
    cells = [lines[k].split(", ") for k in rows]
    for number, row in zip(rows, cells, strict=True):
        if len(row) != len(COLUMNS):
            what = f"line {number + 1}: {len(row)} cells and not {len(COLUMNS)}"
            raise data.wrong(path, what)
    found = dict(zip(COLUMNS, zip(*cells, strict=True), strict=True))
    for name, known in KNOWN.items():
        if not set(found[name]) <= set(known):
            odd = next(k for k, cell in enumerate(found[name]) if cell not in known)
            what = f"line {rows[odd] + 1}: {name} is {found[name][odd][:40]!r}, which is none of its values"
            raise data.wrong(path, what)
    for name, most in NUMBERS.items():
        bad = _above(found[name], most)
        if bad is not None:
            what = f"line {rows[bad] + 1}: {name} is {found[name][bad][:40]!r} and should be 0 to {most}"
            raise data.wrong(path, what)
    return found


def _above(cells: Sequence[str], most: int) -> int | None:
    """The place of the first cell that is no whole number up to ``most``; each value is looked at once."""
    bad = {cell for cell in set(cells) if not (cell.isdecimal() and int(cell) <= most)}
    return next((k for k, cell in enumerate(cells) if cell in bad), None) if bad else None


def numbers(cells: dict[str, tuple[str, ...]], names: Sequence[str]) -> NDArray[np.float64]:
    """Columns of numbers, ``float64[N, P]``; money as log(1 + x)."""
    columns = [np.array(cells[name], dtype=np.float64) for name in names]
    return np.stack(
        [np.log1p(c) if n in MONEY else c for n, c in zip(names, columns, strict=True)], axis=1
    )


def vocabulary(cells: Sequence[str]) -> dict[str, int]:
    """Codes of the values of a column, from 1; 0 is for those that are not among them."""
    return {value: code for code, value in enumerate(sorted(set(cells)), 1)}
