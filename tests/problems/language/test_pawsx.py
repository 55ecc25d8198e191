import gzip
import os
import runpy
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from equipoise.problems import problem
from equipoise.problems.catalogue import presets
from equipoise.problems.files import DataError
from equipoise.problems.language.pairs import moves, numbers, split
from equipoise.problems.language.paraphrases import Row, together
from equipoise.problems.language.pawsx import DATASET, rows_of
from equipoise.study.measuring import scores

FIXTURE = runpy.run_path(str(Path(__file__).parents[1] / "fixtures" / "pawsx.py"))
HEADER = "id\tsentence1\tsentence2\tlabel\n"
real = pytest.mark.skipif(
    not (Path(os.environ.get("EQUIPOISE_DATA", "/nowhere")) / "pawsx").is_dir(),
    reason="the pairs are not there",
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    FIXTURE["write"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path


def made(**options):
    return problem("pawsx", **{**FIXTURE["OPTIONS"], **options})


def shared(first, second):
    """The ids, and the sentences, that two parts have in common, whatever the language."""
    ids = [{row.id for rows in part.values() for row in rows} for part in (first, second)]
    said = [
        {text.strip().lower() for rows in part.values() for row in rows for text in row[1:3]}
        for part in (first, second)
    ]
    return ids[0] & ids[1], said[0] & said[1]


def test_no_id_is_in_training_and_validation_in_whatever_language(root):
    train, held = (rows_of(["en", "de"], split) for split in ("train", "validation"))
    assert shared(train, held) == (set(), set())
    assert (len(train["en"]), len(held["en"])) == (90, 30)


def test_pairs_that_have_a_sentence_in_common_stay_together_in_whatever_language():
    rows = {
        "en": [Row(n, f"a {n}", f"b {n}", 0) for n in (1, 2, 3)] + [Row(4, " B 3", "c", 1)],
        "de": [Row(n, f"d {n}", f"e {n}", 0) for n in (1, 5)] + [Row(6, "f", "E 5 ", 0)],
        "es": [Row(1, "g", "h", 0), Row(6, "i", "g", 1)],
    }
    assert sorted(together(rows)) == [[1, 5, 6], [2], [3, 4]]


def test_no_sentence_is_in_training_and_validation_where_pairs_share_sentences(root):
    for path, language in (("en-dev.tsv", "en"), ("x-final/de/dev_2k.tsv", "de")):
        (root / "pawsx" / f"{path}.gz").unlink()
        # Three pairs after each other begin alike.
        text = "".join(
            f"{n}\t{language} {n // 3}\t{language} no {n}\t{n % 2}\n" for n in range(1, 91)
        )
        (root / "pawsx" / path).write_text(HEADER + text, encoding="utf-8")
    train, held = (rows_of(["en", "de"], split) for split in ("train", "validation"))
    assert shared(train, held) == (set(), set())
    assert 20 <= len(held["en"]) <= 22 and len(train["en"]) + len(held["en"]) == 90


def test_a_language_without_an_id_in_a_split_is_told_with_its_file(root):
    one = root / "pawsx" / "x-final" / "de" / "dev_2k.tsv"
    one.with_suffix(".tsv.gz").unlink()
    one.write_text(HEADER + "1\ta b\tb a\t0\n", encoding="utf-8")
    told = []
    for part in ("train", "validation"):
        with suppress(DataError):
            told.append(len(rows_of(["en", "de"], part)["de"]))
    # The one pair is in one of the splits.
    assert told == [1]
    with pytest.raises(DataError, match=r"dev_2k\.tsv: none of its ids is in the") as caught:
        for part in ("train", "validation"):
            made().source(part)
    assert "leave the language 'de' out" in str(caught.value) and "fetch" not in str(caught.value)


def test_a_mark_of_the_order_of_bytes_is_no_part_of_the_head(root):
    path = root / "pawsx" / "en-test.tsv.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + content))
    assert len(made().source("test").sources["en"]) == 40


def test_what_is_not_translated_is_left_out(root):
    every = [row for part in ("train", "validation") for row in rows_of(["de"], part)["de"]]
    assert len(every) == 113 and all(row.second != "NS" for row in every)


def test_with_training_files_dev_is_the_validation_split(root):
    for language in ("en", "de"):
        rows = "".join(f"{n}\tone two {n}\ttwo one {n}\t{n % 2}\n" for n in range(30))
        name = {"en": "en-train.tsv", "de": "x-final/de/translated_train.tsv"}[language]
        (root / "pawsx" / name).write_text(HEADER + rows, encoding="utf-8")
    built = made()
    assert len(built.source("train").sources["de"]) == 30
    assert len(built.source("validation").sources["en"]) == 120


def test_a_training_file_for_some_languages_only_is_refused(root):
    (root / "pawsx" / "en-train.tsv").write_text(HEADER + "1\ta b\tb a\t0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"de-train\.tsv.*other languages have one"):
        made().source("train")


def test_what_was_moved_is_told_apart_from_what_was_not():
    first, swapped = list("abcdef"), list("aecdbf")
    assert len(set(moves(first, first))) == 1
    assert moves(first, swapped)[0] == moves(first, first)[0] != moves(first, swapped)[1]
    turned = 10
    assert numbers(first, first)[turned] == 0 < numbers(first, swapped)[turned]


def test_sentences_without_a_word_in_common_have_finite_numbers():
    found = numbers(["a"], ["b"])
    assert len(found) == 19 and all(abs(value) <= 2 for value in found)


def test_chinese_is_cut_into_characters_and_names_stay_whole():
    assert split("它位于Taunton以西,1972") == ["它", "位", "于", "taunton", "以", "西", ",", "1972"]


def taught(built, batches, rate):
    torch.manual_seed(0)
    model = built.network(["en", "de"])
    optimizer = torch.optim.Adam(model.parameters(), rate)
    seen = []
    for batch in batches:
        total = sum(built.losses_of(model, batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        seen.append(total.item())
    return model, seen


def test_the_small_network_beats_the_more_frequent_answer(root):
    built = made()
    source = built.source("train")
    model, _ = taught(built, (next(iter(source.batches(64, seed))) for seed in range(40)), 0.01)
    found = scores(built, model, ["en", "de"], built.source("test").batches(99, None))
    for language, rows in built.source("test").sources.items():
        share = float(rows.targets[language].double().mean())
        assert found[language, "accuracy"] > 100 * max(share, 1 - share) + 5


def test_a_bert_from_scratch_learns_a_batch_by_heart(root):
    built = made(network="bert", width=32)
    batch = next(iter(built.source("train").batches(16, 0)))
    _, seen = taught(built, [batch] * 16, 0.01)
    assert min(seen) < 0.85 * seen[0]
    ids, there, types = batch.inputs["de"]
    # Two sentences, of the types 0 and 1, and padding, of neither.
    assert set(types[0][there[0] == 1].tolist()) == {0, 1} and not ids[there == 0].any()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id\tsentence1\tlabel\n1\ta\t0\n", "line 1 has the columns id, sentence1, label"),
        (HEADER + "1\ta\tb\t2\n", "line 2 has the label '2', which is neither 0 nor 1"),
        (HEADER + "1\ta\tb\n", "line 2 has 3 columns"),
        (HEADER + "1\ta\tb\t0\n1\tc\td\t1\n", "line 3 has the id 1, which is there already"),
        (HEADER + "x\ta\tb\t0\n", "line 2 has 'x' where its id should be"),
        (HEADER + "1\ta\t \t0\n", "line 2 has an empty sentence"),
        (HEADER + "1\tNS\tb\t0\n", "there is no pair of sentences"),
        (HEADER, "there is no pair of sentences"),
    ],
)
def test_a_wrong_line_is_told_with_file_and_line(root, text, told):
    with gzip.open(root / "pawsx" / "en-test.tsv.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(DataError, match=r"en-test\.tsv\.gz.*" + told):
        made().source("test")
    assert any("en-test.tsv.gz" in each for each in DATASET.complaints())


def test_a_missing_file_is_told_with_all_its_names(root):
    (root / "pawsx" / "x-final" / "de" / "test_2k.tsv.gz").unlink()
    with pytest.raises(DataError, match=r"de-test\.tsv.*x-final/de/test_2k\.tsv"):
        made().source("test")


def test_presets_begin_with_the_paper():
    assert next(iter(presets("pawsx"))) == "lin2022" and "quick" in presets("pawsx")


@real
def test_the_real_files_are_divided_without_a_common_id():
    train, held = (rows_of(["en", "zh", "de", "es"], part) for part in ("train", "validation"))
    assert len(train["en"]) == 1800 and len(held["en"]) == 200
    assert shared(train, held) == (set(), set())
