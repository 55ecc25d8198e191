"""Fair comparison: what is compared, the trials, where they run, what they say."""

from equipoise.study.advice import advice
from equipoise.study.arm_findings import ArmFindings
from equipoise.study.arms import Arm, arms
from equipoise.study.choice import Choice
from equipoise.study.comparison import Study, compare
from equipoise.study.database import StoreError
from equipoise.study.executors import Executor, Inline, Local, Ray, Slurm
from equipoise.study.findings import Findings, findings
from equipoise.study.loading import load, parse
from equipoise.study.method_spec import MethodSpec
from equipoise.study.objective import Objective
from equipoise.study.plans import Plan, plans
from equipoise.study.questions import PROTOCOLS, Protocol
from equipoise.study.run import Listener, run
from equipoise.study.spaces import Candidate
from equipoise.study.spec import Spec
from equipoise.study.store import Store
from equipoise.study.studies import preset, study
from equipoise.study.trial import Failure, Outcome, Result, Trial
from equipoise.study.verdict import Sentence, headline
from equipoise.study.verdict import compare as sentence
from equipoise.study.warnings import Warning, warnings

__all__ = [
    "PROTOCOLS",
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
    "Objective",
    "Outcome",
    "Plan",
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
    "compare",
    "findings",
    "headline",
    "load",
    "parse",
    "plans",
    "preset",
    "run",
    "sentence",
    "study",
    "warnings",
]
