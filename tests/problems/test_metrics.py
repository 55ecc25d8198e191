import math

import pytest
import torch

from equipoise.problems.metrics import (
    average_precision,
    average_relative_rmse,
    mean_absolute_error,
    relative_rmse,
    roc_auc,
)


def column(*values):
    return torch.tensor(values).float().unsqueeze(1)


def test_the_area_under_the_roc_curve_counts_pairs_in_the_right_order():
    scores, labels = column(0.1, 0.4, 0.35, 0.8), column(0, 0, 1, 1)
    assert roc_auc().score(scores, labels) == pytest.approx(0.75)
    assert roc_auc().score(-scores, labels) == pytest.approx(0.25)
    assert roc_auc().score(torch.zeros(4, 1), labels) == pytest.approx(0.5)


def test_average_precision_agrees_with_a_count_by_hand():
    # Positives at places 1 and 3 of the ranking: (1/1 + 2/3) / 2.
    score = average_precision().score(column(0.9, 0.8, 0.7, 0.1), column(1, 0, 1, 0))
    assert score == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("metric", [roc_auc(), average_precision()])
def test_a_ranking_of_one_class_is_refused_with_the_class_and_a_remedy(metric):
    with pytest.raises(ValueError, match=r"all 3 labels of the split are 0.*take more rows"):
        metric.score(torch.rand(3, 1), torch.zeros(3, 1))


@pytest.mark.parametrize("metric", [roc_auc(), average_precision()])
def test_a_ranking_refuses_labels_that_are_not_zero_or_one_and_scores_that_are_not_finite(metric):
    with pytest.raises(ValueError, match="not 0 and 1 alone"):
        metric.score(torch.rand(3, 1), column(0, 1, 2))
    with pytest.raises(ValueError, match="not finite"):
        metric.score(column(0.1, math.nan, 0.2), column(0, 1, 1))
    with pytest.raises(ValueError, match="cannot be compared"):
        metric.score(torch.rand(3), column(0, 1, 1))


def test_a_constant_has_a_relative_error_of_one():
    targets = column(1.0, 2.0, 6.0)
    assert relative_rmse(mean=3.0).score(torch.full((3, 1), 3.0), targets) == pytest.approx(1.0)
    assert relative_rmse(mean=3.0).score(targets, targets) == 0.0


def test_a_relative_error_does_not_depend_on_the_unit():
    outputs, targets = torch.randn(50, 1), torch.randn(50, 1)
    alike = relative_rmse().score(1000 * outputs, 1000 * targets)
    assert relative_rmse().score(outputs, targets) == pytest.approx(alike)


def test_a_relative_error_against_a_constant_that_is_right_is_refused():
    with pytest.raises(ValueError, match="all 3 targets of the split are 2"):
        relative_rmse(mean=2.0).score(torch.rand(3, 1), torch.full((3, 1), 2.0))


def test_the_average_relative_error_is_the_mean_over_tasks_and_leaves_out_missing_targets():
    outputs = {"a": column(0.0, 0.0), "b": column(2.0, 5.0)}
    targets = {"a": column(1.0, -1.0), "b": column(2.0, math.nan)}
    assert average_relative_rmse().score(outputs, targets) == pytest.approx((1.0 + 0.0) / 2)


def test_the_mean_absolute_error_of_standardised_targets_is_told_in_their_unit():
    metric = mean_absolute_error("meV", scale=30.0)
    assert metric.score(column(0.0, 1.0), column(1.0, -1.0)) == pytest.approx(45.0)
    assert metric.unit == "meV"
