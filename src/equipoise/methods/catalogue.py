"""The table of all methods, and how one is built by its id."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from equipoise.methods.adatask import AdaTask
from equipoise.methods.aligned_mtl import AlignedMTL
from equipoise.methods.auto_lambda import AutoLambda
from equipoise.methods.base import Card, Method
from equipoise.methods.cagrad import CAGrad
from equipoise.methods.config import ConFIG
from equipoise.methods.conicgrad import ConicGrad
from equipoise.methods.cosmos import COSMOS
from equipoise.methods.cov import CoV
from equipoise.methods.cr_mogm import CRMOGM
from equipoise.methods.db_mtl import DBMTL
from equipoise.methods.dtp import DTP
from equipoise.methods.dualproj import DualProj
from equipoise.methods.dwa import DWA
from equipoise.methods.epo import EPO
from equipoise.methods.ew import EW
from equipoise.methods.excess_mtl import ExcessMTL
from equipoise.methods.fairgrad import FairGrad
from equipoise.methods.famo import FAMO
from equipoise.methods.ferero import FERERO
from equipoise.methods.forum import FORUM
from equipoise.methods.gls import GLS
from equipoise.methods.go4align import GO4Align
from equipoise.methods.graddrop import GradDrop
from equipoise.methods.gradnorm import GradNorm
from equipoise.methods.gradops import GradOPS
from equipoise.methods.gradvac import GradVac
from equipoise.methods.group_dro import GroupDRO
from equipoise.methods.igb import IGB
from equipoise.methods.imgrad import IMGrad
from equipoise.methods.imtl import IMTL
from equipoise.methods.imtl_g import IMTLG
from equipoise.methods.imtl_l import IMTLL
from equipoise.methods.krum import Krum
from equipoise.methods.lbtw import LBTW
from equipoise.methods.ldc_mtl import LDCMTL
from equipoise.methods.mean import Mean
from equipoise.methods.metabalance import MetaBalance
from equipoise.methods.mgda import MGDA
from equipoise.methods.moco import MoCo
from equipoise.methods.modo import MoDo
from equipoise.methods.moml import MOML
from equipoise.methods.nash_mtl import NashMTL
from equipoise.methods.pareto_mtl import ParetoMTL
from equipoise.methods.pbi import PBI
from equipoise.methods.pcd import PCD
from equipoise.methods.pcgrad import PCGrad
from equipoise.methods.pivrg import PIVRG
from equipoise.methods.relobralo import ReLoBRaLo
from equipoise.methods.rgw import RGW
from equipoise.methods.rlw import RLW
from equipoise.methods.rotograd import RotoGrad
from equipoise.methods.scalarization import Scalarization
from equipoise.methods.sdmgrad import SDMGrad
from equipoise.methods.si import SI
from equipoise.methods.slaw import SLAW
from equipoise.methods.softadapt import SoftAdapt
from equipoise.methods.stch import STCH
from equipoise.methods.tchebycheff import Tchebycheff
from equipoise.methods.trimmed_mean import TrimmedMean
from equipoise.methods.unit_norm import UnitNorm
from equipoise.methods.upgrad import UPGrad
from equipoise.methods.uw import UW
from equipoise.methods.uw_o import UWO
from equipoise.methods.uw_so import UWSO

METHODS: tuple[type[Method], ...] = (
    # losses
    EW,
    Mean,
    Scalarization,
    RLW,
    UW,
    UWO,
    UWSO,
    DWA,
    GLS,
    IMTLL,
    SI,
    FAMO,
    STCH,
    Tchebycheff,
    COSMOS,
    PBI,
    GO4Align,
    IGB,
    CoV,
    SLAW,
    LBTW,
    DTP,
    SoftAdapt,
    ReLoBRaLo,
    GroupDRO,
    LDCMTL,
    # gramian
    RGW,
    MGDA,
    PCGrad,
    CAGrad,
    NashMTL,
    FairGrad,
    PIVRG,
    IMTLG,
    IMTL,
    AlignedMTL,
    UPGrad,
    DualProj,
    ConFIG,
    Krum,
    GradVac,
    GradNorm,
    UnitNorm,
    CRMOGM,
    RotoGrad,
    MetaBalance,
    ConicGrad,
    GradOPS,
    EPO,
    ParetoMTL,
    PCD,
    IMGrad,
    FERERO,
    # jacobian
    GradDrop,
    # batches
    MoDo,
    SDMGrad,
    # bilevel
    MOML,
    AutoLambda,
    FORUM,
    TrimmedMean,
    AdaTask,
    DBMTL,
    ExcessMTL,
    MoCo,
)

BY_ID: dict[str, type[Method]] = {cls.card.id: cls for cls in METHODS}


def methods() -> list[Card]:
    """The cards of all methods, in the order of the catalogue."""
    return [cls.card for cls in METHODS]


def find(name: str) -> type[Method]:
    """The class of the method with this id.

    Raises:
        ValueError: there is none; the message names the nearest ones.
    """
    if name in BY_ID:
        return BY_ID[name]
    raise ValueError(f"no method is called '{name}'{_suggestion(name, list(BY_ID))}")


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
