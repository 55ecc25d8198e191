"""The ways to take a training step: the plain sum, ours, and other libraries' where they are installed.

====================  ================================================================================
``plain``             the sum of the losses, one backward pass: what all others are compared with
``losses``            ``balancer(losses).backward()`` of a method that looks at losses
``parameters``        ``balancer(losses).backward()`` of a method that looks at gradients
``backward``          ``balancer.backward(losses)``
``shared``            as ``parameters``, with ``share`` and ``route="parameters"``
``shared_backward``   as ``backward``, with ``share`` and ``route="parameters"``
``features``          ``balancer(losses).backward()`` with ``share``: a variant of the method
``torchjd``           TorchJD's ``mtl_backward`` and ``jac_to_grad``, all tasks in one vectorised pass
``torchjd_1``         the same with ``parallel_chunk_size=1``: a pass a task
``torchjd_gramian``   the same, and ``optimize_gramian_computation=True``
``libmtl``            LibMTL's weighting of that name, ``rep_grad=False``
====================  ================================================================================
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import equipoise
from workloads import Workload

Step = Callable[[], None]
Deliver = Callable[[Tensor, dict[str, Tensor]], None]

# The chunk of ``mtl_backward`` and whether the Gramian is summed tensor by tensor.
TORCHJD: dict[str, tuple[int | None, bool]] = {
    "torchjd": (None, False),
    "torchjd_1": (1, False),
    "torchjd_gramian": (1, True),
}
OURS = ("losses", "parameters", "backward", "shared", "shared_backward", "features")
ENGINES = ("plain", *OURS, *TORCHJD, "libmtl")

# TorchJD's aggregator, of its module, our method, and the number of tasks, at our method's options.
AGGREGATORS: dict[str, Callable[[Any, Any, int], Any]] = {
    "mgda": lambda jd, ours, tasks: jd.MGDA(),
    "upgrad": lambda jd, ours, tasks: jd.UPGrad(),
    "dualproj": lambda jd, ours, tasks: jd.DualProj(),
    "cagrad": lambda jd, ours, tasks: jd.CAGrad(c=ours.c),
    "nash_mtl": lambda jd, ours, tasks: jd.NashMTL(n_tasks=tasks, max_norm=0.0),
    "fairgrad": lambda jd, ours, tasks: jd.FairGrad(alpha=ours.alpha),
    "imtl_g": lambda jd, ours, tasks: jd.IMTLG(),
    "pcgrad": lambda jd, ours, tasks: jd.PCGrad(),
    "gradvac": lambda jd, ours, tasks: jd.GradVac(beta=ours.beta),
    # Its preferences are shares that sum to one; the paper's sum is K times that.
    "aligned_mtl": lambda jd, ours, tasks: jd.AlignedMTL(pref_vector=torch.ones(tasks)),
    "config": lambda jd, ours, tasks: jd.ConFIG(),
    "krum": lambda jd, ours, tasks: jd.Krum(ours.n_byzantine, ours.n_selected),
}

# LibMTL's class and the options of its ``backward``. Nash-MTL is left out: its solver's failures are
# swallowed, so that what is timed may be no method at all.
WEIGHTINGS: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "mgda": ("MGDA", lambda ours: {"mgda_gn": "none"}),
    "upgrad": ("UPGrad", lambda ours: {"UPGrad_norm_eps": 1e-4, "UPGrad_reg_eps": 1e-4}),
    "cagrad": ("CAGrad", lambda ours: {"calpha": ours.c, "rescale": ours.rescale}),
    "fairgrad": ("FairGrad", lambda ours: {"FairGrad_alpha": ours.alpha}),
    "pcgrad": ("PCGrad", lambda ours: {}),
    "gradvac": ("GradVac", lambda ours: {"GradVac_beta": ours.beta, "GradVac_group_type": 0}),
    "aligned_mtl": ("Aligned_MTL", lambda ours: {}),
}


def routes_of(method: Any) -> list[str]:
    """Our engines of a method; none where a step takes several batches."""
    if method.needs == "losses":
        return ["losses"]
    if method.needs not in ("gramian", "jacobian"):
        return []
    exact = ["parameters", "backward", "shared", "shared_backward"]
    return exact + (["features"] if "features" in method.routes else [])


def engines_of(method: str) -> list[str]:
    """All engines of a method, whether or not they are installed."""
    engines = routes_of(equipoise.method(method))
    if method in AGGREGATORS:
        engines += TORCHJD
    if method in WEIGHTINGS:
        engines.append("libmtl")
    return engines


def absent() -> dict[str, str]:
    """Why a peer cannot be had, by its name; empty where both can."""
    missing = {}
    for name, peer in (("torchjd", "TorchJD"), ("LibMTL", "LibMTL")):
        if importlib.util.find_spec(name) is None:
            missing[name.lower()] = f"{peer} cannot be imported, and is left out"
    return missing


def stepper(work: Workload, method: str | None, engine: str) -> Step:
    """One training step.

    The learning rate is 0: every engine sees the same gradients, however many steps it has taken, and the
    optimiser's work is the same.

    Args:
        work: what is trained; an engine needs its own.
        method: of the balancer; None is the plain sum.
        engine: one of :data:`ENGINES`.

    Raises:
        ImportError: the peer, or a solver it needs, is not installed.
        ValueError: the peer has no such setting for the method.
    """
    optimizer = torch.optim.SGD(work.parameters(), lr=0.0)
    balancer = None
    if method is None:
        deliver = _plain
    elif engine in TORCHJD:
        deliver = _torchjd(work, method, *TORCHJD[engine])
    elif engine == "libmtl":
        deliver = _libmtl(work, method)
    else:
        exact = {"route": "parameters"} if engine.startswith("shared") else {}
        balancer = equipoise.Balancer(method, list(work.heads), **exact)
        for group in balancer.param_groups(lr=0.0):
            optimizer.add_param_group(group)
        own = balancer.backward if engine.endswith("backward") else balancer

        def deliver(features: Tensor, losses: dict[str, Tensor]) -> None:
            value = own(losses)
            if own is balancer:
                torch.autograd.backward(value)

    shares = engine in ("shared", "shared_backward", "features")
    looks_again = balancer is not None and balancer.method.awaits == "after_step()"

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        features = work.trunk(work.batch)
        views = balancer.share(features) if shares else dict.fromkeys(work.heads, features)
        deliver(features, work.losses(views))
        optimizer.step()
        if looks_again:
            balancer.after_step(
                lambda: work.losses(dict.fromkeys(work.heads, work.trunk(work.batch)))
            )

    return step


def _plain(features: Tensor, losses: dict[str, Tensor]) -> None:
    torch.autograd.backward(sum(losses.values(), start=features.new_zeros(())))


def _torchjd(work: Workload, method: str, chunk: int | None, by_gramian: bool) -> Deliver:
    import torchjd.aggregation as jd
    from torchjd.autojac import jac_to_grad, mtl_backward

    aggregator = AGGREGATORS[method](jd, equipoise.method(method), len(work.heads))
    if by_gramian and not isinstance(aggregator, jd.GramianWeightedAggregator):
        raise ValueError("its aggregator is no function of the Gramian")
    trunk = list(work.trunk.parameters())
    more = {"optimize_gramian_computation": True} if by_gramian else {}

    def deliver(features: Tensor, losses: dict[str, Tensor]) -> None:
        mtl_backward(list(losses.values()), features=features, parallel_chunk_size=chunk)
        jac_to_grad(trunk, aggregator, **more)

    return deliver


def _libmtl(work: Workload, method: str) -> Deliver:
    name, options_of = WEIGHTINGS[method]
    weighting = getattr(_libmtl_module(name), name)

    class Model(weighting):  # type: ignore[misc]
        """What a weighting asks of LibMTL's architectures."""

        def get_share_params(self) -> Any:
            return work.trunk.parameters()

        def zero_grad_share_params(self) -> None:
            work.trunk.zero_grad(set_to_none=False)

    model = Model()
    model.task_name, model.task_num = list(work.heads), len(work.heads)
    model.device, model.rep_grad = work.batch.device, False
    model.init_param()
    options = options_of(equipoise.method(method))

    def deliver(features: Tensor, losses: Mapping[str, Tensor]) -> None:
        # The trainer hands a weighting its losses as one tensor, filled entry by entry.
        gathered = features.new_zeros(len(losses))
        for k, loss in enumerate(losses.values()):
            gathered[k] = loss
        model.backward(gathered, **options)

    return deliver


def _libmtl_module(name: str) -> ModuleType:
    """One weighting's module, without the package's own start: that imports torchvision, and every solver."""
    for package in ("LibMTL", "LibMTL.weighting"):
        if package not in sys.modules:
            spec = importlib.util.find_spec(package)
            if spec is None or spec.submodule_search_locations is None:
                raise ImportError(f"{package} cannot be imported")
            module = ModuleType(package)
            module.__path__ = list(spec.submodule_search_locations)
            sys.modules[package] = module
    return importlib.import_module(f"LibMTL.weighting.{name}")
