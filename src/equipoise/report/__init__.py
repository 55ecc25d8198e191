"""One offline HTML file, figures and tables from a store."""

from equipoise.report.page import write
from equipoise.report.table import Table
from equipoise.report.tables import comparisons, results

__all__ = ["Table", "comparisons", "results", "write"]
