import gzip
import runpy
from pathlib import Path

import pytest
import torch

from equipoise.problems import problem
from equipoise.problems.catalogue import presets
from equipoise.problems.files import DataError
from equipoise.problems.language.subwords import END, PADDING
from equipoise.problems.language.translation import DATASET, _subwords
from equipoise.problems.per_task import TaskSampler
from equipoise.study.measuring import scores

pytest.importorskip("sentencepiece")
pytest.importorskip("sacrebleu")

FIXTURE = runpy.run_path(str(Path(__file__).parents[1] / "fixtures" / "translation.py"))


@pytest.fixture
def root(tmp_path, monkeypatch):
    FIXTURE["write"](tmp_path)
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    return tmp_path


def made(**options):
    return problem("translation", **{**FIXTURE["OPTIONS"], **options})


def text(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def rewritten(path, content):
    path.write_bytes(gzip.compress(content, mtime=0))


def test_every_pair_of_languages_has_sentences_of_its_own_in_order(root):
    built = made()
    assert [task.name for task in built.tasks] == ["fr", "zh"]
    for target, source in built.source("test").sources.items():
        batch = next(iter(source.batches(2, None)))
        wanted = text(root / "translation" / f"test.en-{target}.{target}.gz")[:2]
        found = [
            bytes(row).rstrip(b"\0").decode() for row in batch.targets[target]["text"].tolist()
        ]
        assert found == wanted
        sources, prefix, limit = batch.inputs
        tokens = batch.targets[target]["tokens"]
        # The prefix is the translation, one token later; both end where the other does.
        assert torch.equal(
            prefix[:, 1:], tokens[:, :-1].masked_fill(tokens[:, :-1] == END, PADDING)
        )
        assert int(prefix[0, 0]) == int(prefix[1, 0])
        assert all(END in row for row in sources.tolist()) and (limit > 8).all()


def test_each_language_has_a_first_token_of_its_own(root):
    first = {
        target: int(next(iter(source.batches(1, None))).inputs[1][0, 0])
        for target, source in made().source("train").sources.items()
    }
    assert first["fr"] != first["zh"]


@pytest.mark.parametrize("decoders", ["shared", "own"])
def test_a_few_steps_lower_the_loss_and_translations_are_measured(root, decoders):
    built = made(decoders=decoders, beams=2 if decoders == "own" else 1)
    torch.manual_seed(0)
    model = built.network(["fr", "zh"])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    source = built.source("train")
    held = list(built.source("validation").batches(30, None))
    before = scores(built, model, ["fr", "zh"], held)
    model.train()
    for _, batch in zip(range(40), source.batches(32, 0), strict=False):
        optimizer.zero_grad()
        sum(built.losses_of(model, batch).values()).backward()
        optimizer.step()
    after = scores(built, model, ["fr", "zh"], held)
    for target in ("fr", "zh"):
        assert after[target, "cross-entropy"] < 0.6 * before[target, "cross-entropy"]
        assert after[target, "token error"] < before[target, "token error"]
        assert 0 <= after[target, "BLEU"] <= 100
    assert after["zh", "BLEU"] > before["zh", "BLEU"]


def test_pieces_written_as_in_the_reference_have_a_bleu_of_one_hundred(root):
    built = made()
    metric = built.by_name["zh"].metrics[-1].score
    source = built.source("test").sources["zh"]
    for batch in source.batches(30, None):
        metric.update({"written": batch.targets["zh"]["tokens"]}, batch.targets["zh"])
    assert metric.compute() == pytest.approx(100.0)


def test_weights_are_the_chances_of_a_batch(root):
    source = made(sampling={"fr": 1.0, "zh": 3.0}).source("train")
    assert source.draw == TaskSampler(weights={"fr": 1.0, "zh": 3.0})
    drawn = [name for batch in source.batches(8, 0) for name in batch.targets]
    assert 0.6 < drawn.count("zh") / len(drawn) < 0.9


def test_a_single_task_is_learned_by_the_same_network(root):
    built = made()
    model = built.network(["zh"])
    batch = next(iter(built.source("train").batches(8, 0))).only(["zh"])
    assert set(built.losses_of(model, batch)) == {"zh"}


def test_pieces_are_kept_beside_the_data_and_a_damaged_file_is_made_anew(root):
    built = made()
    first = next(iter(built.source("train").sources["fr"].batches(4, None))).inputs[0]
    kept = next((root / "translation" / "prepared").glob("*.model"))
    array = next((root / "translation" / "prepared").glob("train.en-fr*/source.npy"))
    for path in (kept, array):
        content = bytearray(path.read_bytes())
        content[-9] ^= 8
        path.unlink()
        path.write_bytes(content)
    _subwords.cache_clear()
    from equipoise.problems.language import translation

    translation._arrays.cache_clear()
    again = next(iter(made().source("train").sources["fr"].batches(4, None))).inputs[0]
    assert torch.equal(first, again)


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(root, monkeypatch):
    def refused(*_, **__):
        raise OSError("read-only")

    monkeypatch.setattr(Path, "mkdir", refused)
    assert len(made().source("train")) == 2400
    assert not (root / "translation" / "prepared").exists()


def test_other_layouts_of_parallel_text_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path))
    folder = tmp_path / "translation"
    folder.mkdir()
    for part in ("train", "dev", "test"):
        # One source for a translation, and a pair that is named the other way round.
        names = (f"{part}.en", f"{part}.fr", f"{part}.zh-en.en", f"{part}.zh-en.zh")
        for name in names:
            (folder / name).write_text("".join(f"ab cd {n}\n" for n in range(40)), "utf-8")
    assert len(made(vocabulary=24).source("train")) == 80


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda rows: "\n".join(rows[:-1]).encode(), "ends after line 59, and .* goes on"),
        (lambda rows: "\n".join([rows[0], " ", *rows[2:]]).encode(), "line 2 is empty"),
        (lambda rows: rows[0].encode() + b"\n\xff\n", "line 2 is not UTF-8"),
        (lambda rows: b"", "it is empty"),
    ],
)
def test_a_wrong_line_is_told_with_file_and_line(root, content, told):
    path = root / "translation" / "dev.en-fr.fr.gz"
    rewritten(path, content(text(path)))
    with pytest.raises(DataError, match=r"dev\.en-fr\.fr\.gz.*" + told):
        made().source("validation")
    assert any("dev.en-fr.fr.gz" in each for each in DATASET.complaints())


def test_a_missing_translation_is_told(root):
    (root / "translation" / "test.en-zh.zh.gz").unlink()
    with pytest.raises(DataError, match=r"test\.en-zh\.zh: there is no such file"):
        made().source("test")
    with pytest.raises(DataError, match=r"train\.en-ro\.en: there is no such file"):
        made(targets=["fr", "ro"]).source("train")


@pytest.mark.parametrize("preset", ["xin2022", "xin2022_sampling"])
def test_presets_take_the_steps_of_the_paper_on_its_corpora(preset):
    found = presets("translation")[preset]
    fr, zh, size = 40_853_298, 25_986_436, found["batch_size"]
    # Together, half a batch is of each target; by chances, a batch is of one.
    epoch = (fr + zh) / size if "sweep" in found else fr / (size // 2)
    assert found["epochs"] == round(530_038 / epoch)


def test_presets_are_those_of_the_paper(root):
    found = presets("translation")
    assert list(found) == ["xin2022", "xin2022_sampling", "quick"]
    assert found["xin2022"]["learning_rates"] == [0.05, 0.1, 0.5, 1.0, 2.5, 5.0]
    with pytest.raises(ValueError, match="decoders is 'two'; known: shared, own"):
        made(decoders="two")
