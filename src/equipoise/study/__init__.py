"""Fair comparison: what is compared, the trials, where they run, what they say."""

from equipoise.study.advice import advice
from equipoise.study.comparison import Study, compare
from equipoise.study.database import StoreError
from equipoise.study.executors import Executor, Inline, Local, Ray, Slurm
from equipoise.study.findings import ArmFindings, Findings, findings
from equipoise.study.protocols import Arm, Candidate, arms
from equipoise.study.questions import PROTOCOLS, Protocol
from equipoise.study.run import Listener, run
from equipoise.study.selection import Choice, choose
from equipoise.study.spec import MethodSpec, Spec, load, parse
from equipoise.study.store import Store
from equipoise.study.studies import STUDIES, study
from equipoise.study.trial import Failure, Outcome, Result, Trial
from equipoise.study.verdict import Sentence, headline
from equipoise.study.verdict import compare as sentence
from equipoise.study.warnings import Warning, warnings

__all__ = [
    "PROTOCOLS",
    "STUDIES",
    "Arm",
    "ArmFindings",
    "Candidate",
    "Choice",
    "Executor",
    "Failure",
    "Findings",
    "Inline",
    "Listener",
    "Local",
    "MethodSpec",
    "Outcome",
    "Protocol",
    "Ray",
    "Result",
    "Sentence",
    "Slurm",
    "Spec",
    "Store",
    "StoreError",
    "Study",
    "Trial",
    "Warning",
    "advice",
    "arms",
    "choose",
    "compare",
    "findings",
    "headline",
    "load",
    "parse",
    "run",
    "sentence",
    "study",
    "warnings",
]
