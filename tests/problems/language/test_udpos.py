import gzip
import os
import runpy
from pathlib import Path

import pytest
import torch

from equipoise.problems import problem
from equipoise.problems.catalogue import presets
from equipoise.problems.files import DataError
from equipoise.problems.language.udpos import DATASET, TAGS
from equipoise.problems.language.words import convolutional, features, shape
from equipoise.study.measuring import scores

FIXTURE = runpy.run_path(str(Path(__file__).parents[1] / "fixtures" / "udpos.py"))
real = pytest.mark.skipif(
    not (Path(os.environ.get("EQUIPOISE_DATA", "/nowhere")) / "udpos").is_dir(),
    reason="the treebanks are not there",
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    FIXTURE["write"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path


def made(**options):
    return problem("udpos", **{**FIXTURE["OPTIONS"], **options})


def trained(built, steps, rate=0.01):
    torch.manual_seed(0)
    model = built.network([task.name for task in built.tasks])
    optimizer = torch.optim.Adam(model.parameters(), rate)
    source = built.source("train")
    batches = (batch for seed in range(99) for batch in source.batches(32, seed))
    for _, batch in zip(range(steps), batches, strict=False):
        optimizer.zero_grad()
        sum(built.losses_of(model, batch).values()).backward()
        optimizer.step()
    names = [task.name for task in built.tasks]
    return scores(built, model, names, built.source("test").batches(built.piece, None))


def test_a_task_for_each_language_with_words_and_tags_as_they_are_in_the_file(root):
    built = made()
    assert [task.name for task in built.tasks] == ["en", "te"]
    source = built.source("test").sources["te"]
    with gzip.open(root / "udpos" / "test-te.tsv.gz", "rt", encoding="utf-8") as file:
        first = [line.split("\t") for line in file.read().split("\n\n")[0].splitlines()]
    batch = next(iter(source.batches(1, None)))
    assert [TAGS[tag] for tag in batch.targets["te"][0]] == [tag for _, tag in first]
    assert batch.inputs[0].tolist() == [features(word) for word, _ in first]


def test_the_network_learns_what_endings_tell(root):
    found = trained(made(), steps=40)
    assert found["en", "accuracy"] > 80 and found["te", "accuracy"] > 80
    assert found["en", "macro F1"] > 60


def test_a_bert_from_scratch_learns_too_and_only_first_pieces_have_tags(root):
    built = made(network="bert", width=32)
    source = built.source("test").sources["en"]
    plain = made().source("test").sources["en"]
    words = sum(int((batch.targets["en"] >= 0).sum()) for batch in plain.batches(99, None))
    tags = sum(int((batch.targets["en"] >= 0).sum()) for batch in source.batches(99, None))
    assert words == tags
    before = trained(built, steps=0)
    assert trained(built, steps=25)["en", "loss"] < 0.8 * before["en", "loss"]


def test_a_sentence_has_the_same_outputs_in_every_batch():
    torch.manual_seed(0)
    network = convolutional(8).build().eval()
    alone = torch.randint(1, 99, (1, 3, 10))
    padded = torch.cat([alone, torch.zeros(1, 4, 10, dtype=torch.int64)], 1)
    together = network(torch.cat([padded, torch.randint(1, 99, (1, 7, 10))]))
    assert torch.allclose(together[0, :3], network(alone)[0], atol=1e-6)
    assert not together[0, 3:].any()


def test_shape_tells_capitals_digits_and_scripts():
    assert shape("Paris") == "Lu Ll" and shape("2.5%") == "Nd Po Nd Po" and shape("水") == "Lo"


def test_fewer_training_rows_leave_the_other_splits_as_they_are(root):
    built = made(rows=30)
    assert {n: len(s) for n, s in built.source("train").sources.items()} == {"en": 30, "te": 30}
    assert len(built.source("test")) == len(made().source("test"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"a\tNOUN\nb\tNAME\n", r"line 2 has the tag 'NAME', which is none of ADJ"),
        (b"a\tNOUN\nb\n", r"line 2 has 1 columns.*XTREME strips the tags"),
        (b"a\tNOUN\textra\n", r"line 1 has 3 columns"),
        (b"a\tNOUN\n\n\tVERB\n", r"line 3 has a tag but no word"),
        (b"a\tNOUN\n\xff\tVERB\n", r"line 2 is not UTF-8"),
        (b"\n\n", "there is no sentence"),
        (b"", "it is empty"),
    ],
)
def test_a_wrong_line_is_told_with_file_and_line(root, text, told):
    (root / "udpos" / "en-dev.tsv.gz").unlink()
    (root / "udpos" / "en-dev.tsv").write_bytes(text)
    with pytest.raises(DataError, match=r"en-dev\.tsv.*" + told):
        made().source("validation")
    assert any("en-dev.tsv" in each for each in DATASET.complaints())


def test_a_missing_language_is_told_with_both_names(root):
    with pytest.raises(DataError, match=r"vi-train\.tsv.*train-vi\.tsv"):
        made(languages=["en", "vi"]).source("train")


def test_weights_that_are_not_there_are_told(root):
    built = made(network="bert", weights="mbert")
    with pytest.raises(DataError, match=r"mbert.*no such folder of weights"):
        built.source("train")


def test_unknown_network_and_language_are_told(root):
    with pytest.raises(ValueError, match="there is no network 'lstm'; known: small, bert"):
        made(network="lstm")
    with pytest.raises(ValueError, match="no task 'zh'"):
        made(tasks=["zh", "en"])


def test_presets_begin_with_the_paper():
    assert next(iter(presets("udpos"))) == "lin2022" and "quick" in presets("udpos")


@real
def test_the_treebanks_have_their_published_sizes():
    built = problem("udpos")
    found = {split: built.source(split).sources for split in ("train", "validation", "test")}
    assert {n: len(s) for n, s in found["train"].items()} == {
        "en": 12543,
        "zh": 3997,
        "te": 1051,
        "vi": 1400,
    }
    assert len(found["test"]["te"]) == 146 and len(found["validation"]["zh"]) == 500
