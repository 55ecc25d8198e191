"""What the losses of a network do to each other: watched while it trains, and looked at before."""

from equipoise.diagnosis.monitor import Look, Monitor
from equipoise.diagnosis.suggestion import Suggestion, suggest

__all__ = ["Look", "Monitor", "Suggestion", "suggest"]
