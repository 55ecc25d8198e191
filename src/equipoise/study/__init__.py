"""Fair comparison: what is compared, the trials, where they run, what they say."""

from equipoise.study.executors import Executor, Inline, Local
from equipoise.study.protocols import PROTOCOLS, Arm, Candidate, Protocol, arms
from equipoise.study.run import Listener, run
from equipoise.study.selection import Choice, choose
from equipoise.study.spec import MethodSpec, Spec, load, parse
from equipoise.study.store import Store
from equipoise.study.trial import Failure, Outcome, Result, Trial

__all__ = [
    "PROTOCOLS",
    "Arm",
    "Candidate",
    "Choice",
    "Executor",
    "Failure",
    "Inline",
    "Listener",
    "Local",
    "MethodSpec",
    "Outcome",
    "Protocol",
    "Result",
    "Spec",
    "Store",
    "Trial",
    "arms",
    "choose",
    "load",
    "parse",
    "run",
]
