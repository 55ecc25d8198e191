"""One offline HTML file, figures and tables from a store; or from several, across problems."""

from equipoise.report.across import pictures_across, write_across
from equipoise.report.page import write
from equipoise.report.pictures import pictures
from equipoise.report.table import Table
from equipoise.report.tables import comparisons, results

__all__ = [
    "Table",
    "comparisons",
    "pictures",
    "pictures_across",
    "results",
    "write",
    "write_across",
]
