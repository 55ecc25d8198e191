"""The table of the page "Where it is exact", read off the tests that ran.

Each cell names tests. ``docs/exactness.json`` holds what became of them; it is written by
``pytest tests/setups tests/ranks --exactness docs/exactness.json``. A cell whose tests failed or did not
run says so.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROUTES = ("losses", "parameters", "features")


class Cell(NamedTuple):
    """One set-up on one route.

    Attributes:
        means: what it means that the tests pass.
        tests: ``file::function[parameters]`` in ``tests/``, where ``*`` stands for anything; without
            brackets, the function with any parameters.
        note: what to do, or how far off it is.
    """

    means: str
    tests: tuple[str, ...]
    note: str = ""


class Row(NamedTuple):
    """One set-up: its name and a cell for each route, None where there is none."""

    setup: str
    losses: Cell | None
    parameters: Cell | None
    features: Cell | None


EXACT, EITHER, REFUSED, NEAR = "exact", "exact or refused", "refused", "approximate"


def exact(*tests: str, note: str = "") -> Cell:
    return Cell(EXACT, tests, note)


def either(*tests: str, note: str) -> Cell:
    """The tests take the right gradients, or an error with the remedy."""
    return Cell(EITHER, tests, note)


def refused(*tests: str, note: str) -> Cell:
    return Cell(REFUSED, tests, note)


def near(*tests: str, note: str) -> Cell:
    return Cell(NEAR, tests, note)


def by_route(setup: str, *tests: str, parameters: str = "", features: str = "") -> Row:
    """The same tests on all routes, told apart by their parameters; a note makes "exact or refused" of it."""
    cells = []
    for route in ROUTES:
        note = {"parameters": parameters, "features": features}.get(route, "")
        own = tuple(test.replace("ROUTE", route) for test in tests)
        cells.append(either(*own, note=note) if note else exact(*own))
    return Row(setup, *cells)


HOOKS = "setups/test_hooks_and_grads.py::"
LAYERS = "setups/test_layers.py::"
HEADS = "setups/test_heads_and_trunk.py::"
SHARED = "setups/test_what_is_shared.py::"
COMPILE = "setups/test_compile.py::"
HALF = "setups/test_precision.py::"
COPIES = "setups/test_closures_and_copies.py::"
TWICE = "setups/test_double_backward.py::"
MATRIX = "ranks/test_ranks_matrix.py::"
DDP = "ranks/test_ranks_ddp.py::"
FSDP = "ranks/test_ranks_fsdp.py::"
BATCHES = "ranks/test_ranks_batches.py::"
SYNC = "ranks/test_ranks_sync.py::"
AROUND = "ranks/test_ranks_wrappers.py::"
THREE = "ranks/test_ranks_three.py::"

ONE = (
    by_route("a plain loop, with hooks on parameters", HOOKS + "test_a_hook_*[*-ROUTE-*]"),
    by_route(
        "clipping; gradients that are there already",
        HOOKS + "test_clipping_acts_once[*-ROUTE-*]",
        HOOKS + "test_gradients_that_are_there_are_added_to_in_place[*-ROUTE-*]",
    ),
    by_route("accumulation over micro-batches", HOOKS + "test_micro_batches_add_up[*-ROUTE-*]"),
    Row(
        "two optimisers at different paces",
        exact(HOOKS + "test_two_optimisers_at_different_paces[*uw_o]"),
        exact(HOOKS + "test_two_optimisers_at_different_paces[*mgda]"),
        None,
    ),
    Row(
        "losses that meet in one node above the heads (stack, cat, unbind)",
        either(
            HEADS + "test_a_head_rule_asked_for_holds_where_losses_meet[uw_o-weighted]",
            note="nothing is refused at present",
        ),
        either(
            HEADS + "test_where_losses_meet_the_heads_are_still_heads",
            HEADS + "test_naming_the_trunk_settles_it",
            note="heads are told by their gradients, and nothing is refused at present; ``shared=`` says it "
            "outright",
        ),
        exact(HEADS + "test_views_need_no_search_and_no_warning"),
    ),
    Row(
        "tied weights, adapters on a frozen base, no heads at all",
        None,
        exact(
            SHARED + "test_tied_weights_are_shared_and_a_task_may_miss_some",
            SHARED + "test_a_model_without_heads_is_shared_as_a_whole",
            SHARED + "test_adapters_of_a_frozen_base_are_the_shared_part",
        ),
        None,
    ),
    Row(
        "frozen features",
        None,
        None,
        refused(
            SHARED + "test_views_of_frozen_features_are_refused",
            note="share what a trainable trunk returns",
        ),
    ),
    Row(
        "inputs with ``requires_grad``",
        exact(SHARED + "test_loss_methods_reach_inputs_too"),
        exact(
            SHARED + "test_an_input_that_requires_a_gradient_is_not_balanced",
            note="an input is never shared",
        ),
        exact(SHARED + "test_the_input_gets_the_balanced_gradient_below_views"),
    ),
    by_route(
        "complex parameters",
        LAYERS + "test_complex_parameters_are_pairs_of_real_ones[*-ROUTE-*]",
        parameters="nothing is refused at present",
    ),
    by_route(
        "sparse embeddings",
        LAYERS + "test_sparse_gradients_are_those_of_the_dense_layer[*-ROUTE-*]",
        parameters="nothing is refused at present",
    ),
    by_route(
        "recurrent layers, batch norm, dropout", LAYERS + "test_layers_with_a_memory[*-ROUTE-*]"
    ),
    by_route(
        "checkpointing, ``use_reentrant=False``",
        LAYERS + "test_a_checkpointed_trunk[*-ROUTE-*-plain]",
        LAYERS + "test_checkpointed_heads[*-ROUTE-*-plain]",
    ),
    by_route(
        "checkpointing, reentrant",
        LAYERS + "test_a_checkpointed_trunk[*-ROUTE-*-reentrant]",
        LAYERS + "test_checkpointed_heads[*-ROUTE-*-reentrant]",
        parameters="every method that looks at gradients is refused: ``use_reentrant=False``",
        features="a trunk is exact; heads are refused where their gradients are needed before the "
        "backward pass: ``use_reentrant=False``",
    ),
    Row(
        "trunk and heads compiled",
        exact(COMPILE + "test_a_function_that_computes_compiled_losses"),
        either(
            COMPILE + "test_trunk_and_heads_compiled_one_by_one",
            COMPILE + "test_a_trunk_of_generated_code",
            note="refused where a graph can be passed once only: "
            "``torch._functorch.config.donated_buffer = False``",
        ),
        either(
            COMPILE + "test_trunk_and_heads_compiled_one_by_one",
            COMPILE + "test_a_trunk_of_generated_code",
            note="with a compiled trunk nothing is refused at present",
        ),
    ),
    Row(
        "the whole model compiled",
        exact(COMPILE + "test_a_model_compiled_as_a_whole"),
        either(
            COMPILE + "test_a_model_compiled_as_a_whole",
            COMPILE + "test_a_compiled_model_with_its_trunk_named",
            note="refused where the graph can be passed once only, with the same remedy; "
            "``shared=model.trunk`` where heads cannot be told",
        ),
        None,
    ),
    Row(
        "the balancer inside the compiled step",
        exact(
            COMPILE + "test_a_loss_method_is_compiled_without_a_break",
            COMPILE + "test_options_are_compiled_without_a_break",
        ),
        None,
        None,
    ),
    Row(
        "bfloat16 autocast",
        near(
            HALF + "test_autocast_on_the_routes_of_one_pass[ew-*]",
            HALF + "test_autocast_on_the_routes_of_one_pass[uw_o-*]",
            HALF + "test_autocast_on_the_routes_of_one_pass[famo-*]",
            note="the network rounds; the balancer computes in single or double precision",
        ),
        near(
            HALF + "test_autocast_does_not_round_what_the_balancer_computes", note="as for losses"
        ),
        near(HALF + "test_autocast_on_the_routes_of_one_pass[mgda-*]", note="as for losses"),
    ),
    Row(
        "float16 with a ``GradScaler``",
        exact(HALF + "test_losses_in_half_precision_get_the_weights_of_the_same_numbers"),
        near(
            HALF + "test_a_scaler_changes_no_weight[*-call-*]",
            HALF + "test_a_scaler_changes_no_weight[*-backward-*]",
            HALF + "test_after_an_overflow_it_is_as_if_the_step_had_not_been[*-backward-*]",
            note="within the rounding of float16 (3 %), none refused at present; give "
            "``balancer.backward`` the scaler",
        ),
        near(
            HALF + "test_a_scaler_changes_no_weight[*-features-*]",
            HALF + "test_after_an_overflow_it_is_as_if_the_step_had_not_been[*-features-*]",
            note="within the rounding of float16 (3 %), none refused at present",
        ),
    ),
    by_route(
        "LBFGS under ``frozen()``",
        COPIES + "test_frozen_value_and_gradient_belong_to_one_function[*-ROUTE-*]",
        COPIES + "test_lbfgs_with_line_search_descends_on_a_frozen_loss[*-ROUTE-*]",
    ),
    Row(
        "a gradient penalty in a loss",
        exact(TWICE + "test_a_loss_may_hold_a_penalty_on_the_input_gradient[*-losses-*]"),
        exact(TWICE + "test_a_loss_may_hold_a_penalty_on_the_input_gradient[*-parameters-*]"),
        either(
            TWICE + "test_a_penalty_on_the_gradient_at_a_view",
            TWICE + "test_a_penalty_through_a_view_is_right_or_refused",
            note="a penalty that goes through a view into the trunk: ``route='parameters'``",
        ),
    ),
    Row(
        "``backward(create_graph=True)`` of the balanced loss",
        exact(TWICE + "test_the_balanced_gradient_differentiated_again[*-losses]"),
        either(
            TWICE + "test_the_balanced_gradient_differentiated_again[*-parameters]",
            note="refused: the gradient is found, not derived; take penalties of single losses",
        ),
        either(
            TWICE + "test_the_balanced_gradient_differentiated_again[*-features]",
            note="as for parameters",
        ),
    ),
    by_route(
        "backward twice through one graph",
        TWICE + "test_a_second_backward_pass_leaves_the_same_again[*-ROUTE]",
    ),
    Row(
        "a balanced loss inside another balancer",
        exact(HOOKS + "test_a_balanced_loss_may_be_a_loss_of_another_balancer[*-uw_o]"),
        exact(HOOKS + "test_a_balanced_loss_may_be_a_loss_of_another_balancer[*-mgda]"),
        None,
    ),
    Row(
        "saving and resuming, also as part of a model",
        exact("setups/test_saving.py::test_resuming_with_the_balancer_inside_is_bit_identical"),
        exact("setups/test_saving.py::test_resuming_with_the_balancer_inside_is_bit_identical"),
        None,
    ),
)

SEVERAL = (
    by_route(
        "DistributedDataParallel, every method",
        MATRIX + "test_two_ranks_are_one_process[*-ROUTE-scalar]",
        MATRIX + "test_two_ranks_agree_and_are_told_nothing[*-ROUTE-scalar]",
    ),
    Row(
        "the same with ``balancer.backward``",
        None,
        exact(MATRIX + "test_two_ranks_*[*-parameters-backward]"),
        None,
    ),
    by_route(
        "``static_graph``, ``find_unused_parameters``, bucket options",
        DDP + "test_options_change_nothing[*-ROUTE-*]",
    ),
    by_route(
        "losses computed outside the wrapped module",
        DDP + "test_losses_may_be_computed_outside_the_module[*-ROUTE-*]",
    ),
    by_route(
        "the balancer inside the wrapped module",
        DDP + "test_the_balancer_may_be_part_of_the_module[*-ROUTE-*]",
    ),
    by_route(
        "accumulation under ``no_sync``",
        DDP + "test_batches_may_be_accumulated_without_synchronising[*-ROUTE-*]",
        DDP + "test_accumulation_in_the_buckets[*-ROUTE-*]",
    ),
    by_route(
        "batches of unequal size, with ``weight=``",
        BATCHES + "test_parts_of_unlike_size_count_by_their_examples[*-ROUTE-*]",
        BATCHES + "test_examples_may_be_told_task_by_task[*-ROUTE-*]",
        BATCHES + "test_tasks_count_by_their_labels[*-ROUTE-*]",
    ),
    by_route(
        "a task that some process lacks",
        BATCHES + "test_a_task_absent_on_one_rank_is_the_others_alone[*-ROUTE-*]",
        THREE + "test_a_task_absent_on_some_of_three_ranks[*-ROUTE-*]",
    ),
    by_route(
        "a loss that is not finite on one process",
        BATCHES + "test_a_broken_loss_*[*-ROUTE-*]",
        BATCHES + "test_a_step_is_skipped_on_all_ranks[*-ROUTE-*]",
        THREE + "test_a_loss_broken_on_one_of_three_ranks[*-ROUTE-*]",
    ),
    by_route("three processes", THREE + "test_three_*[*-ROUTE-*]"),
    by_route(
        "priors, averages, bounds, reuse",
        AROUND + "test_wrappers_see_the_whole_batch[*-ROUTE-*]",
    ),
    Row(
        "SAMO around a method",
        None,
        exact(AROUND + "test_sharpness_aware_gradients"),
        None,
    ),
    Row(
        "FSDP2, ``balancer(losses).backward()``",
        exact(FSDP + "test_losses"),
        either(
            FSDP + "test_parameters_by_the_scalar_are_exact_or_refused",
            note="refused where task gradients are looked at: call ``balancer.backward(losses)``",
        ),
        exact(FSDP + "test_features", FSDP + "test_features_and_heads"),
    ),
    Row(
        "FSDP2, ``balancer.backward(losses)``",
        None,
        exact(
            FSDP + "test_parameters_by_one_sharded_pass_a_task", note="every process has all tasks"
        ),
        None,
    ),
    Row(
        "FSDP2, methods that look at single entries",
        None,
        either(
            FSDP + "test_methods_of_single_entries_are_exact_or_refused",
            note="entries are spread over processes: balance at the features, or choose a method of "
            "inner products",
        ),
        exact(FSDP + "test_features[*graddrop*]"),
    ),
    Row(
        "``sync='gramian'``",
        None,
        near(SYNC + "test_common_gramians_give_common_weights", note="how far: see below"),
        None,
    ),
    Row(
        "``sync='local'``",
        near(
            SYNC + "test_alone_every_rank_has_its_own_weights[ew]",
            SYNC + "test_alone_every_rank_has_its_own_weights[uw_so]",
            note="each process weighs by its own batch",
        ),
        near(SYNC + "test_alone_every_rank_has_its_own_weights[mgda]", note="how far: see below"),
        None,
    ),
)
TABLES = {"one": ONE, "several": SEVERAL}


@cache
def outcomes(file: Path) -> dict[str, str]:
    """What became of each test; empty where nothing was written."""
    if not file.exists():
        return {}
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found


def matching(pattern: str, names: Mapping[str, str]) -> list[str]:
    """The tests of a pattern."""
    whole = pattern if "[" in pattern else f"{pattern}[*]"
    function, parameters = whole.split("[", 1)
    regex = _regex(f"tests/{function}")
    # A test without parameters has no brackets.
    bare = re.compile(regex)
    full = re.compile(regex + r"\[" + _regex(parameters[:-1]) + r"\]")
    return [n for n in names if full.fullmatch(n) or ("[" not in pattern and bare.fullmatch(n))]


def _regex(pattern: str) -> str:
    return ".*".join(map(re.escape, pattern.split("*")))


def said(cell: Cell | None, names: Mapping[str, str]) -> str:
    """The text of a cell: what its tests showed."""
    if cell is None:
        return "–"
    found = [[names[n] for n in matching(pattern, names)] for pattern in cell.tests]
    ran = [outcome for of_pattern in found for outcome in of_pattern if outcome != "skipped"]
    if not ran:
        return "*not run*"
    lost = sum(not set(of_pattern) - {"skipped"} for of_pattern in found)
    failed = ran.count("failed")
    if failed:
        return f"**{failed} of {len(ran)} tests failed**" + (f"; {cell.note}" if cell.note else "")
    count = f"{len(ran)} test{'s' if len(ran) > 1 else ''}"
    if lost:
        count += f"; {lost} of {len(found)} groups not run"
    mark = f"*{cell.means}*" if cell.means != EXACT else EXACT
    return f"{mark} ({count})" + (f": {cell.note}" if cell.note else "")


def table(rows: tuple[Row, ...], names: Mapping[str, str]) -> list[str]:
    """The lines of a list-table."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 28 20 28 24",
        "   :class: exactness",
        "",
        "   * - set-up",
        *(f"     - {route}" for route in ROUTES),
    ]
    for row in rows:
        lines.append(f"   * - {row.setup}")
        lines += [f"     - {said(getattr(row, route), names)}" for route in ROUTES]
    return [*lines, ""]


def summary(names: Mapping[str, str]) -> str:
    """The run in one sentence."""
    count = Counter(names.values())
    if not names:
        return "The tests have not been run."
    text = f"Of {len(names):,} tests {count['passed']:,} passed and {count['failed']:,} failed"
    if count["skipped"]:
        text += (
            f"; {count['skipped']:,} were skipped, for want of a GPU or of a library, or since the "
        )
        text += "method has no such case"
    return text + "."


class ExactnessTable(SphinxDirective):
    """``.. exactness:: one``, ``several``, or ``run`` for the tests in all."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        file = Path(self.env.srcdir) / "exactness.json"
        self.env.note_dependency(str(file))
        which, names = self.arguments[0], outcomes(file)
        lines = [summary(names)] if which == "run" else table(TABLES[which], names)
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("exactness", ExactnessTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
