"""One offline HTML file, figures and tables from a store."""

from equipoise.report.page import write
from equipoise.report.tables import Table, comparisons, results

__all__ = ["Table", "comparisons", "results", "write"]
