"""The table of all methods, and how one is built by its id."""

from __future__ import annotations

import difflib
import inspect
from importlib import import_module
from typing import Any

from equipoise.methods.base import Card, Method

# Id of every method, and where it is: module of this folder and class. A module is imported when its method
# is asked for, so that ``import equipoise`` does not read sixty files for the one that is used.
CATALOGUE: dict[str, str] = {
    # losses
    "ew": "ew:EW",
    "mean": "mean:Mean",
    "scalarization": "scalarization:Scalarization",
    "rlw": "rlw:RLW",
    "uw": "uw:UW",
    "uw_o": "uw_o:UWO",
    "uw_so": "uw_so:UWSO",
    "dwa": "dwa:DWA",
    "gls": "gls:GLS",
    "imtl_l": "imtl_l:IMTLL",
    "si": "si:SI",
    "famo": "famo:FAMO",
    "stch": "stch:STCH",
    "tchebycheff": "tchebycheff:Tchebycheff",
    "cosmos": "cosmos:COSMOS",
    "pbi": "pbi:PBI",
    "go4align": "go4align:GO4Align",
    "igb": "igb:IGB",
    "cov": "cov:CoV",
    "slaw": "slaw:SLAW",
    "lbtw": "lbtw:LBTW",
    "dtp": "dtp:DTP",
    "softadapt": "softadapt:SoftAdapt",
    "relobralo": "relobralo:ReLoBRaLo",
    "group_dro": "group_dro:GroupDRO",
    "ldc_mtl": "ldc_mtl:LDCMTL",
    # gramian
    "rgw": "rgw:RGW",
    "mgda": "mgda:MGDA",
    "pcgrad": "pcgrad:PCGrad",
    "cagrad": "cagrad:CAGrad",
    "nash_mtl": "nash_mtl:NashMTL",
    "fairgrad": "fairgrad:FairGrad",
    "pivrg": "pivrg:PIVRG",
    "imtl_g": "imtl_g:IMTLG",
    "imtl": "imtl:IMTL",
    "aligned_mtl": "aligned_mtl:AlignedMTL",
    "upgrad": "upgrad:UPGrad",
    "dualproj": "dualproj:DualProj",
    "config": "config:ConFIG",
    "krum": "krum:Krum",
    "gradvac": "gradvac:GradVac",
    "gradnorm": "gradnorm:GradNorm",
    "unit_norm": "unit_norm:UnitNorm",
    "cr_mogm": "cr_mogm:CRMOGM",
    "rotograd": "rotograd:RotoGrad",
    "metabalance": "metabalance:MetaBalance",
    "conicgrad": "conicgrad:ConicGrad",
    "gradops": "gradops:GradOPS",
    "epo": "epo:EPO",
    "pareto_mtl": "pareto_mtl:ParetoMTL",
    # jacobian
    "graddrop": "graddrop:GradDrop",
    # batches
    "modo": "modo:MoDo",
    "sdmgrad": "sdmgrad:SDMGrad",
    # bilevel
    "moml": "moml:MOML",
    "auto_lambda": "auto_lambda:AutoLambda",
    "forum": "forum:FORUM",
    "trimmed_mean": "trimmed_mean:TrimmedMean",
    "adatask": "adatask:AdaTask",
    "db_mtl": "db_mtl:DBMTL",
    "excess_mtl": "excess_mtl:ExcessMTL",
    "moco": "moco:MoCo",
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
    module, _, cls = CATALOGUE[name].partition(":")
    found: type[Method] = getattr(import_module(f"equipoise.methods.{module}"), cls)
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
