import gzip
import importlib.util
import math
import os
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch

from equipoise.problems import DataError, presets, problem
from equipoise.problems.tables import molecules as chemistry
from equipoise.problems.tables.qm8 import PROPERTIES, divided, qm8
from equipoise.problems.tables.tox21 import ASSAYS, tox21

FIXTURES = {
    name: run_path(str(Path(__file__).parents[1] / "fixtures" / f"{name}.py"))
    for name in ("tox21", "qm8")
}
REAL = Path(os.environ.get("EQUIPOISE_DATA", "")) / "molnet"
SPLITS = ("train", "validation", "test")
needs_rdkit = pytest.mark.skipif(
    importlib.util.find_spec("rdkit") is None, reason="needs the extra molecules"
)
needs_graphs = pytest.mark.skipif(
    importlib.util.find_spec("torch_geometric") is None, reason="needs the extra molecules"
)


@pytest.fixture
def small(tmp_path, monkeypatch):
    for fixture in FIXTURES.values():
        fixture["write"](tmp_path)
    FIXTURES["tox21"]["write_clintox"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path / "molnet"


def edited(path, edit):
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress(("\n".join(edit(lines)) + "\n").encode()))


def test_labels_are_those_of_the_file_and_an_empty_cell_is_missing(small):
    edited(small / "tox21.csv.gz", lambda lines: [*lines[:1], "CCO,1,0,,,,,,,,,,1", *lines[2:]])
    every = chemistry.read(small / "tox21.csv.gz", None, ASSAYS["tox21"], chemistry.yes_or_no)
    assert every.smiles[0] == "CCO" and every.lines[0] == 2
    assert every.labels[0, [0, 1, 11]].tolist() == [1, 0, 1]
    assert np.isnan(every.labels[0, 2:11]).all()


def test_columns_are_found_by_name_as_another_publisher_orders_them(small):
    before = tox21(features="hashed").source("train").targets["SR-p53"]

    def turned(lines):
        return [",".join([*line.split(",")[1:], line.split(",")[0]]) for line in lines]

    edited(small / "tox21.csv.gz", turned)
    after = tox21(features="hashed").source("train").targets["SR-p53"]
    assert torch.equal(before.nan_to_num(-1), after.nan_to_num(-1))


def test_splits_have_every_molecule_once(small):
    found = tox21(features="hashed", bits=16)
    parts = [found.source(s).targets for s in SPLITS]
    assert [len(each["NR-AR"]) for each in parts] == [192, 24, 24]
    rows = torch.cat([torch.cat(list(each.values()), 1) for each in parts]).nan_to_num(-1)
    every = chemistry.read(small / "tox21.csv.gz", None, ASSAYS["tox21"], chemistry.yes_or_no)
    wanted = torch.from_numpy(every.labels).float().nan_to_num(-1)
    assert sorted(rows.tolist()) == sorted(wanted.tolist())


def test_the_same_molecule_twice_stays_in_one_split():
    kinds = [*range(60), *range(40)]
    index = chemistry.at_random(kinds, seed=3)
    seen = [{kinds[k] for k in index[s]} for s in SPLITS]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert sorted(np.concatenate(list(index.values()))) == list(range(100))


def test_the_largest_scaffolds_come_into_training():
    kinds = ["benzene"] * 70 + ["pyridine"] * 12 + [f"rare {k}" for k in range(18)]
    index = chemistry.by_kind(kinds)
    assert set(range(70)) <= set(index["train"])
    assert [len(index[s]) for s in SPLITS] == [80, 10, 10] or set(index["validation"]) >= set(
        range(70, 82)
    )


@needs_rdkit
def test_no_scaffold_is_in_two_splits(small):
    every = chemistry.read(small / "tox21.csv.gz", None, ("NR-AR",), chemistry.yes_or_no)
    kinds = chemistry.scaffolds(every, None)
    index = chemistry.by_kind(kinds)
    seen = [{kinds[k] for k in index[s]} for s in SPLITS]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


@needs_rdkit
def test_fingerprints_tell_molecules_apart_and_not_two_ways_of_writing_one():
    table = chemistry.Molecules(Path("x"), ("CCO", "OCC", "CCN"), (2, 3, 4), np.zeros((3, 1)))
    first, second, third = chemistry.fingerprints(table, None, bits=512)
    assert first.shape == (512,) and first.any()
    assert np.array_equal(first, second) and not np.array_equal(first, third)


@needs_rdkit
def test_a_string_that_is_no_molecule_is_told_with_its_line(small):
    edited(
        small / "tox21.csv.gz",
        lambda lines: [*lines[:9], "c1ccccc" + lines[9][lines[9].index(",") :], *lines[10:]],
    )
    with pytest.raises(DataError, match=r"tox21\.csv\.gz: line 10: 'c1ccccc' is no molecule"):
        tox21().source("train")


@needs_rdkit
def test_compounds_of_aluminium_that_rdkit_refuses_are_kept():
    table = chemistry.Molecules(Path("x"), ("CC(=O)O[AlH3](O)O",), (2,), np.zeros((1, 1)))
    assert chemistry.fingerprints(table, None).sum() > 5


@pytest.mark.parametrize(
    ("cell", "told"), [("2", "NR-AR is '2'"), ("yes", "NR-AR is 'yes'"), ("0,0", "14 cells under")]
)
def test_a_wrong_label_is_told_with_its_line(small, cell, told):
    edited(
        small / "tox21.csv.gz",
        lambda lines: [*lines[:4], f"CC,{cell},0,0,0,0,0,0,0,0,0,0,0", *lines[5:]],
    )
    with pytest.raises(DataError, match=rf"tox21\.csv\.gz: line 5: {told}"):
        tox21(features="hashed").source("train")


def test_a_table_without_a_column_is_told(small):
    edited(small / "qm8.csv.gz", lambda lines: [lines[0].replace("f1-PBE0", "f9"), *lines[1:]])
    with pytest.raises(DataError, match=r"qm8\.csv\.gz: it has no column 'f1-PBE0'"):
        qm8(features="hashed")


@pytest.mark.parametrize("cell", ["", "nan", "7.5", "-1", "x"])
def test_a_property_that_cannot_be_right_is_told(small, cell):
    def edit(lines):
        cells = lines[6].split(",")
        return [*lines[:6], ",".join([*cells[:3], cell, *cells[4:]]), *lines[7:]]

    edited(small / "qm8.csv.gz", edit)
    with pytest.raises(DataError, match=r"qm8\.csv\.gz: line 7"):
        qm8(features="hashed")


def test_clintox_has_two_tasks(small):
    found = tox21(data="clintox", features="hashed")
    assert [task.name for task in found.tasks] == ["FDA_APPROVED", "CT_TOX"]
    assert sum(len(found.source(s)) for s in SPLITS) == 120


def test_a_missing_label_is_left_out_of_the_loss(small):
    made = tox21(features="hashed", bits=64, width=8)
    model = made.network(["NR-AR"])
    batch = next(iter(made.source("train").batches(64, 0)))
    there = ~batch.targets["NR-AR"].isnan().squeeze(1)
    assert 0 < int(there.sum()) < 64
    model.eval()
    loss = made.only(["NR-AR", "NR-ER"]).losses_of(model, batch.only(["NR-AR"]))["NR-AR"]
    out = model(batch.inputs)["NR-AR"][there]
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        out, batch.targets["NR-AR"][there]
    )
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-6)


def test_errors_of_qm8_are_told_in_the_unit_of_the_file(small):
    made = qm8(features="hashed", bits=64)
    kept = divided(small / "qm8.csv.gz", made_version(small), None)
    test = kept.molecules.labels[kept.index["test"]]
    wanted = np.abs(test - kept.mean).mean(0)
    targets = made.source("test").targets
    for task, error in zip(made.tasks, wanted, strict=True):
        y = targets[task.name]
        assert task.metrics[0].score(torch.zeros_like(y), y) == pytest.approx(error, rel=1e-4)
    assert [task.metrics[0].unit for task in made.tasks][:4] == ["Ha", "Ha", "", ""]


def made_version(folder):
    from equipoise.problems.files.texts import version

    return version(folder / "qm8.csv.gz")


@needs_rdkit
@needs_graphs
def test_graphs_of_qm8_train_one_step(small):
    made = qm8(features="graph", width=8, rows=40)
    model = made.network(list(PROPERTIES))
    batch = next(iter(made.source("train").batches(8, 0)))
    losses = made.losses_of(model, batch)
    sum(losses.values()).backward()
    assert len(losses) == 12 and all(math.isfinite(loss.item()) for loss in losses.values())


@needs_rdkit
def test_a_graph_has_its_atoms_and_every_pair_of_them():
    from rdkit import Chem

    from equipoise.problems.tables.graphs import padded

    nodes, sizes, ends, edges = padded([Chem.MolFromSmiles(s) for s in ("CC=O", "C#N")])
    assert sizes.tolist() == [3, 2]
    # Carbon, carbon, oxygen; hydrogens are 3, 1 and 0.
    assert nodes[0, :, 5].tolist() == [6, 6, 8] and nodes[0, :, 10].tolist() == [3, 1, 0]
    assert (ends[0] >= 0).all() and (ends[1] >= 0).all(1).sum() == 2
    kinds = {tuple(e): f for e, f in zip(ends[0].tolist(), edges[0].tolist(), strict=True)}
    assert kinds[0, 1] == [1, 0, 0, 0, 1] and kinds[1, 2] == [0, 1, 0, 0, 1]
    assert kinds[0, 2] == [0, 0, 0, 0, 2]


@pytest.mark.parametrize("name", ["tox21", "qm8"])
def test_the_presets_name_options_that_the_problem_takes(small, name):
    for preset in presets(name).values():
        problem(name, **{**preset.get("problem_options", {}), "rows": 100})


def test_unknown_options_are_refused(small):
    for options in ({"features": "x"}, {"split": "x"}, {"data": "x"}):
        with pytest.raises(ValueError, match="known"):
            tox21(**options)
    with pytest.raises(ValueError, match="known"):
        qm8(loss="x")


@pytest.mark.skipif(not REAL.is_dir(), reason="MoleculeNet's tables are not there")
def test_the_real_tables_have_as_many_labels_as_their_publication():
    data = problem("tox21", features="hashed", bits=16)
    counts = {s: data.source(s).targets for s in SPLITS}
    there = sum(int((~y.isnan()).sum()) for split in counts.values() for y in split.values())
    assert there == 77_946
    positive = sum(int((split["NR-AhR"] == 1).sum()) for split in counts.values())
    assert positive == 768
    assert sum(len(problem("qm8", features="hashed", bits=16).source(s)) for s in SPLITS) == 21_786
