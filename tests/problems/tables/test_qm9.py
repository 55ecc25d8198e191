import gzip
import importlib.util
import os
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch

from equipoise.problems import DataError, presets, problem
from equipoise.problems.files.texts import version
from equipoise.problems.tables import qm9_files
from equipoise.problems.tables.geometry import Graphs, descriptors
from equipoise.problems.tables.qm9 import DATASET, UNITS, divided, qm9

FIXTURE = run_path(str(Path(__file__).parents[1] / "fixtures" / "qm9.py"))
REAL = Path(os.environ.get("EQUIPOISE_DATA", "")) / "qm9"
SPLITS = ("train", "validation", "test")


@pytest.fixture
def small(tmp_path, monkeypatch):
    FIXTURE["write"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path / "qm9"


@pytest.fixture
def official(tmp_path, monkeypatch):
    FIXTURE["write_official"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path / "qm9"


def edited(path, edit):
    path.write_bytes(gzip.compress(edit(gzip.decompress(path.read_bytes()).decode()).encode()))


def test_the_official_files_hold_what_the_subset_holds_less_the_uncharacterized(small, official):
    both = qm9_files.read(official, DATASET)
    for path in official.glob("gdb9*"):
        path.unlink()
    subset = qm9_files.read(official, DATASET)
    kept = [k for k in range(80) if k + 1 not in (3, 17, 80)]
    assert len(subset) == 80 and len(both) == 77
    assert np.array_equal(both.elements, subset.elements[kept])
    assert np.allclose(both.positions, subset.positions[kept])
    assert np.allclose(both.properties, subset.properties[kept])


def test_without_the_list_no_molecule_is_left_out(official):
    (official / "uncharacterized.txt.gz").unlink()
    assert len(qm9_files.read(official, DATASET)) == 80


def numbered(text, line, mu):
    """A table with another dipole moment in a line."""
    lines = text.splitlines()
    cells = lines[line - 1].split(",")
    lines[line - 1] = ",".join([*cells[:4], mu, *cells[5:]])
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "edit", "told"),
    [
        ("gdb9.sdf", lambda t: t[:-300], "it is cut off after molecule 79"),
        ("gdb9.sdf", lambda t: t.replace("gdb_5\n", "gdb_6\n"), "molecule 5 is 'gdb_6'"),
        ("gdb9.sdf", lambda t: t.replace(" O  ", " Xe ", 1), "cannot be read"),
        ("gdb9.sdf", lambda t: "\n".join(t.split("$$$$\n")[0:1]) + "$$$$\n", "after 1 of 80"),
        ("gdb9.sdf.csv", lambda t: t.replace("mol_id,A", "mol_id,a"), "its columns should be"),
        ("gdb9.sdf.csv", lambda t: t + "gdb_81,1\n", "line 82: 1 properties"),
        ("gdb9.sdf.csv", lambda t: t.replace(".", "x", 1), "line 2"),
        ("gdb9.sdf.csv", lambda t: numbered(t, 5, "nan"), "line 5: mu is 'nan'"),
        ("gdb9.sdf.csv", lambda t: numbered(t, 81, "-inf"), "line 81: mu is '-inf'"),
        ("gdb9.sdf.csv", lambda t: t + t.splitlines()[-1] + "\n", "it ends after 80 of 81"),
        ("uncharacterized.txt", lambda t: t.replace("17", "170"), "there is no molecule 170"),
    ],
)
def test_a_wrong_official_file_is_told_by_its_name(official, name, edit, told):
    edited(official / f"{name}.gz", edit)
    wanted = "gdb9.sdf" if "ends after" in told else name
    with pytest.raises(DataError, match=told) as caught:
        qm9(network="mlp")
    assert f"{wanted}.gz: " in str(caught.value)


def test_lines_that_end_as_in_windows_are_read(official):
    before = qm9_files.read(official, DATASET)
    for path in official.glob("*.gz"):
        edited(path, lambda text: text.replace("\n", "\r\n"))
    after = qm9_files.read(official, DATASET)
    assert np.array_equal(before.positions, after.positions)
    assert np.array_equal(before.properties, after.properties)


def test_the_remedy_names_both_places_that_files_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    with pytest.raises(
        DataError, match=r"moleculenet\.org.* \(gdb9\.sdf and .*978904\.v5 \(uncharacterized"
    ):
        qm9()


def arrays(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda a: a | {"z": np.where(a["z"] == 6, 14, a["z"]).astype(np.uint8)}, "is none"),
        (lambda a: a | {"pos": a["pos"] * np.nan}, "molecule 1 is none"),
        (lambda a: a | {"pos": a["pos"][:, :5]}, "shapes of z, pos and targets"),
        (lambda a: a | {"target_names": a["target_names"][::-1]}, "target_names should be"),
        (lambda a: a | {"z": a["z"].astype(float)}, "z is of type float64"),
        (lambda a: {k: v for k, v in a.items() if k != "pos"}, "cannot be read"),
    ],
)
def test_a_wrong_subset_is_told(small, edit, told):
    path = small / "qm9_subset.npz"
    np.savez(path, **edit(arrays(path)))
    with pytest.raises(DataError, match=rf"qm9_subset\.npz: .*{told}"):
        qm9(network="mlp")


def test_splits_are_in_the_proportion_of_the_suggested_ones_and_disjoint(small):
    found = divided(small, version(small), None, "atomisation")
    assert [len(found.index[s]) for s in SPLITS] == [56, 11, 13]
    assert sorted(np.concatenate(list(found.index.values()))) == list(range(80))


def test_errors_are_told_in_the_unit_of_the_metric(small):
    made = qm9(network="mlp", energies="total")
    found = divided(small, version(small), None, "total")
    test = found.targets[found.index["test"]]
    wanted = np.abs(test - found.mean).mean(0)
    targets = made.source("test").targets
    for task, error, (unit, factor) in zip(made.tasks, wanted, UNITS.values(), strict=True):
        y = targets[task.name]
        score = task.metrics[0].score(torch.zeros_like(y), y)
        assert score == pytest.approx(factor * error, rel=1e-4)
        assert task.metrics[0].unit == unit


def test_atomisation_energies_take_the_place_of_total_ones(small):
    one = divided(small, version(small), None, "total").targets
    other = divided(small, version(small), None, "atomisation").targets
    differs = [n for k, n in enumerate(UNITS) if not np.array_equal(one[:, k], other[:, k])]
    assert differs == ["u0", "u298", "h298", "g298"]


def turned(places, seed=0):
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    return (places @ rotation + 0.3).astype(np.float32)


def test_descriptors_do_not_change_when_a_molecule_is_turned_or_its_atoms_change_places(small):
    found = qm9_files.read(small, DATASET)
    z, x = found.elements[:8], found.positions[:8]
    there = descriptors(z, x)
    assert there.shape == (8, 29 + 5)
    assert np.allclose(descriptors(z, turned(x)), there, rtol=1e-3, atol=1e-3)
    order = np.arange(29)
    order[:2] = [1, 0]
    assert np.allclose(descriptors(z[:, order], x[:, order]), there, atol=1e-6)


def test_the_first_eigenvalue_of_one_atom_is_its_own_energy():
    z, x = np.zeros((1, 29), np.uint8), np.zeros((1, 29, 3), np.float32)
    z[0, 0] = 8
    assert descriptors(z, x)[0, 0] == pytest.approx(0.5 * 8**2.4)


def test_graphs_join_every_pair_of_atoms_and_know_bonds_by_their_length():
    # Water: two bonds of 0.96 angstrom, and hydrogens 1.5 apart.
    z = torch.zeros(1, 5, dtype=torch.uint8)
    z[0, :3] = torch.tensor([8, 1, 1])
    x = torch.zeros(1, 5, 3)
    x[0, 1, 0], x[0, 2, 1] = 0.96, 0.96
    nodes, sizes, ends, edges = Graphs()((z, x))
    assert sizes.tolist() == [3]
    there = (ends[0] >= 0).all(1)
    assert int(there.sum()) == 6
    kinds = {tuple(e): f for e, f in zip(ends[0][there].tolist(), edges[0][there], strict=True)}
    assert kinds[0, 1].tolist() == pytest.approx([0.96, 1.0])
    assert kinds[1, 2].tolist() == pytest.approx([0.96 * 2**0.5, 0.0])
    # Oxygen, two bonds, two hydrogens.
    assert nodes[0, 0].tolist() == pytest.approx([0, 0, 0, 1, 0, 8 / 9, 2, 2])


@pytest.mark.skipif(
    importlib.util.find_spec("torch_geometric") is None, reason="needs the extra molecules"
)
def test_the_message_passing_network_does_not_see_how_a_molecule_lies(small):
    made = qm9(width=8)
    model = made.network(list(UNITS)).eval()
    z, x = (each[:4] for each in made.source("train").inputs)
    before = model((z, x))
    after = model((z, torch.from_numpy(turned(x.numpy()))))
    for name in UNITS:
        assert before[name].shape == (4, 1)
        assert torch.allclose(before[name], after[name], atol=1e-3)
    sum(made.losses_of(model, made.source("train").take(slice(0, 4))).values()).backward()


def test_the_presets_name_options_that_the_problem_takes(small):
    for preset in presets("qm9").values():
        problem("qm9", **{**preset.get("problem_options", {}), "rows": 60})


def test_unknown_options_are_refused(small):
    for options in ({"network": "x"}, {"loss": "x"}, {"energies": "x"}):
        with pytest.raises(ValueError, match="known"):
            qm9(**options)


@pytest.mark.skipif(not REAL.is_dir(), reason="QM9 is not there")
def test_the_real_subset_is_divided_as_suggested_and_fits_its_own_geometry():
    made = problem("qm9", network="mlp", energies="total")
    sources = [made.source(s) for s in SPLITS]
    assert [len(s) for s in sources] in ([10_000, 2_000, 2_170], [110_000, 10_000, 10_831])
    # Total energies are nearly a sum over atoms: the last five descriptors tell them.
    x, y = sources[0].inputs[:, -5:].double(), sources[0].targets["u0"].double()
    fit = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], 1), y).solution
    rest = y - torch.cat([x, torch.ones(len(x), 1)], 1) @ fit
    assert rest.std() < 0.01
