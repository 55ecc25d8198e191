"""The table of all methods, and how one is built by its id."""

from __future__ import annotations

import difflib
import inspect
from importlib import import_module
from typing import Any

from equipoise.methods.base import Card, Method

# Id of every method, which is also the name of its file in this folder, and its class. A file is read when
# its method is asked for, so that ``import equipoise`` does not read sixty for the one that is used.
CATALOGUE: dict[str, str] = {
    # losses
    "ew": "EW",
    "mean": "Mean",
    "scalarization": "Scalarization",
    "task_sampling": "TaskSampling",
    "rlw": "RLW",
    "uw": "UW",
    "uw_o": "UWO",
    "uw_so": "UWSO",
    "dwa": "DWA",
    "gls": "GLS",
    "imtl_l": "IMTLL",
    "si": "SI",
    "famo": "FAMO",
    "stch": "STCH",
    "tchebycheff": "Tchebycheff",
    "cosmos": "COSMOS",
    "pbi": "PBI",
    "go4align": "GO4Align",
    "igb": "IGB",
    "cov": "CoV",
    "slaw": "SLAW",
    "lbtw": "LBTW",
    "dtp": "DTP",
    "softadapt": "SoftAdapt",
    "relobralo": "ReLoBRaLo",
    "group_dro": "GroupDRO",
    "ldc_mtl": "LDCMTL",
    # gramian
    "rgw": "RGW",
    "mgda": "MGDA",
    "pcgrad": "PCGrad",
    "cagrad": "CAGrad",
    "nash_mtl": "NashMTL",
    "fairgrad": "FairGrad",
    "pivrg": "PIVRG",
    "imtl_g": "IMTLG",
    "imtl": "IMTL",
    "aligned_mtl": "AlignedMTL",
    "upgrad": "UPGrad",
    "dualproj": "DualProj",
    "config": "ConFIG",
    "krum": "Krum",
    "gradvac": "GradVac",
    "gradnorm": "GradNorm",
    "unit_norm": "UnitNorm",
    "cr_mogm": "CRMOGM",
    "rotograd": "RotoGrad",
    "metabalance": "MetaBalance",
    "conicgrad": "ConicGrad",
    "gradops": "GradOPS",
    "epo": "EPO",
    "pareto_mtl": "ParetoMTL",
    "pcd": "PCD",
    "imgrad": "IMGrad",
    "ferero": "FERERO",
    # jacobian
    "graddrop": "GradDrop",
    "trimmed_mean": "TrimmedMean",
    "adatask": "AdaTask",
    "db_mtl": "DBMTL",
    "excess_mtl": "ExcessMTL",
    "moco": "MoCo",
    # batches
    "modo": "MoDo",
    "sdmgrad": "SDMGrad",
    # bilevel
    "moml": "MOML",
    "auto_lambda": "AutoLambda",
    "forum": "FORUM",
}


def classes() -> tuple[type[Method], ...]:
    """The classes of all methods, in the order of the catalogue; imports every one."""
    return tuple(find(name) for name in CATALOGUE)


def methods() -> list[Card]:
    """The cards of all methods, in the order of the catalogue."""
    return [cls.card for cls in classes()]


def find(name: str) -> type[Method]:
    """The class of the method with this id.

    Raises:
        ValueError: there is none; the message names the nearest ones.
    """
    if name not in CATALOGUE:
        raise ValueError(f"no method is called '{name}'{_suggestion(name, list(CATALOGUE))}")
    found: type[Method] = getattr(import_module(f"equipoise.methods.{name}"), CATALOGUE[name])
    return found


def method(name: str, **options: Any) -> Method:
    """Builds a method by its id.

    Args:
        name: id of the method, as :func:`methods` lists them.
        options: the method's own options.

    Raises:
        ValueError: no such method, or no such option; the message names the nearest ones.
    """
    cls = find(name)
    known = list(inspect.signature(cls).parameters)
    for option in options:
        if option not in known:
            has = f"it takes {', '.join(known)}" if known else "it takes no options"
            raise ValueError(
                f"method '{name}' has no option '{option}'{_suggestion(option, known)}; {has}"
            )
    return cls(**options)


def _suggestion(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
