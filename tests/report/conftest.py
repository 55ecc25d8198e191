import sys
from pathlib import Path

# The tiny problems and the studies with given numbers are shared with the tests of the study.
sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
