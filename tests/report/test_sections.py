"""Sections beyond the comparison: what is computed for them, and that every form of a report has them."""

from equipoise.report import write
from equipoise.study import Store
from equipoise.study.analyses import front


def test_the_front_of_a_setting_is_computed_once_for_verdict_and_page(
    frontier, tmp_path, monkeypatch
):
    asked = []
    own = front._front
    monkeypatch.setattr(
        front, "_front", lambda found, kind: (asked.append(kind), own(found, kind))[1]
    )
    with Store(frontier) as store:
        write(store, tmp_path / "page.html")
    # Two settings of the sweep.
    assert sorted(asked) == sorted(2 * front.KINDS)
