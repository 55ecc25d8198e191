import math

import numpy as np
import pytest

from equipoise.problems.files.arff import Attribute, decoded, parse

HEAD = "@relation 'a title'\n@attribute x numeric\n@attribute kind {a, 'b c', \"d,e\"}\n@data\n"


def rows(text):
    return parse(HEAD + text).rows.tolist()


def test_numbers_and_names_of_a_list_become_numbers_and_places():
    table = parse("% comment\n\n" + HEAD + "1.5, a\n% another\n-2e3,'b c'\n0,\"d,e\"\n")
    assert table.relation == "a title"
    assert table.attributes == (Attribute("x"), Attribute("kind", ("a", "b c", "d,e")))
    assert table.rows.tolist() == [[1.5, 0], [-2000, 1], [0, 2]]


def test_a_question_mark_is_a_missing_value():
    ((first, second),) = rows("?,?\n")
    assert math.isnan(first) and math.isnan(second)


def test_keywords_may_be_in_capitals_and_names_in_quotes_with_an_escaped_quote():
    table = parse("@RELATION r\n@ATTRIBUTE 'it\\'s a name' REAL\n@DATA\n3\n")
    assert table.attributes[0].name == "it's a name"


def test_a_sparse_row_has_zeros_and_first_names_where_it_says_nothing():
    assert rows("{}\n{0 4}\n{1 'b c'}\n{0 2, 1 \"d,e\"}\n") == [[0, 0], [4, 0], [0, 1], [2, 2]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,a,3\n", "line 5: 3 values for 2 attributes"),
        ("1,z\n", "line 5: 'kind' cannot be 'z'"),
        ("one,a\n", "line 5: 'x' cannot be 'one'"),
        ("inf,a\n", "line 5: 'x' cannot be 'inf'"),
        ("1_000,a\n", "line 5: 'x' cannot be '1_000'"),
        ("1,'a\n", "line 5: the quotes"),
        ("{5 1}\n", "line 5: '5 1' is no 'index value'"),
        ("{0 1, 0 2}\n", "line 5: '0 2' is no 'index value'"),
        ("{0 1\n", "does not end with"),
        ("1,a,{2}\n", "line 5"),
        ("", "no row after @data"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(text, told):
    with pytest.raises(ValueError, match=told):
        rows(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it ends before @data"),
        ("1,2,3\n", "line 1: expected @relation"),
        ("@relation r\n@data\n1\n", "line 2: expected"),
        ("@relation r\n@attribute t string\n@data\n", "of type 'string'"),
        ("@relation r\n@attribute t date 'yyyy'\n@data\n", "is of type .date"),
        ("@relation r\n@attribute t {a,a}\n@data\n", "lists a value twice"),
        ("@relation r\n@attribute t {a,b\n@data\n", "no '@attribute name type'|does not end"),
        ("@relation r\n@attribute t real\n@attribute t real\n@data\n1,1\n", "the same name"),
        ("@relation r\n@attribute t real\n", "it ends before @data"),
    ],
)
def test_a_wrong_head_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        parse(text)


def test_a_comment_may_stand_behind_an_attribute_and_behind_a_row():
    head = "@relation r\n@attribute x real % in m, it's {x}\n"
    head += "@attribute k {a,'5 % b'}% or {c}\n@data % now\n"
    table = parse(head + "1,a % one, and it's more\n2,'5 % b'\t% two\n{0 3} % three\n4,'5 % b'\n")
    assert table.attributes == (Attribute("x"), Attribute("k", ("a", "5 % b")))
    assert table.rows.tolist() == [[1, 0], [2, 1], [3, 0], [4, 1]]


def test_a_sign_of_per_cent_in_a_name_is_no_comment():
    head = "@relation r\n@attribute k {10%, 20 %}\n@attribute x real\n@data\n"
    assert parse(head + "20 %,1\n10%,2\n").rows.tolist() == [[1, 1], [0, 2]]
    with pytest.raises(ValueError, match="line 5: 'k' cannot be '30%'"):
        parse(head + "30%,1\n")
    assert parse(head + "10%,3 % why\n10% 4\n").rows.tolist() == [[0, 3], [0, 4]]


def test_spaces_or_tabs_separate_the_values_of_a_row_without_a_comma():
    assert rows("1 a\n2\t'b c'\n3  \"d,e\" % why\n") == [[1, 0], [2, 1], [3, 2]]
    with pytest.raises(ValueError, match="line 5: 3 values for 2 attributes"):
        rows("1 a 2\n")
    with pytest.raises(ValueError, match="line 5: 'x' cannot be '1 2'"):
        rows("1 2,a\n")
    for row in ("1 'b c", "1'b c'", "1 d'e"):
        with pytest.raises(ValueError, match="line 5"):
            rows(row + "\n")


@pytest.mark.parametrize("row", ["1,a,{2}", "1,a, {0.5} % half", "{0 1}, {5}", "{0 1},{5}"])
def test_a_weight_of_a_row_is_refused_in_words(row):
    with pytest.raises(ValueError, match="line 6: the row ends with a weight in braces"):
        rows(f"1,a\n{row}\n")


def test_a_byte_that_is_no_utf8_does_no_harm_in_a_comment():
    text = "% caf\xe9\n@relation r\n@attribute x real % \xb5m\n@data\n  % \xff\n1 % \xb1 2\n"
    assert parse(decoded(text.encode("latin-1"))).rows.tolist() == [[1]]
    assert parse(decoded(b"\xef\xbb\xbf" + text.encode())).rows.tolist() == [[1]]


@pytest.mark.parametrize("line", ["@attribute '% \xe9' {a}", "@attribute x {a, %\xe9}"])
def test_a_byte_that_is_no_utf8_is_refused_elsewhere_with_its_line(line):
    with pytest.raises(ValueError, match=r"line 2: byte .* is no text in UTF-8"):
        decoded(f"@relation r\n{line}\n@data\na\n".encode("latin-1"))


def test_a_table_reads_as_scipy_reads_it():
    import io

    from scipy.io import arff

    lines = [f"{k / 7},{'ab'[k % 2]}" for k in range(50)]
    text = "@relation r\n@attribute x numeric\n@attribute k {a,b}\n@data\n" + "\n".join(lines)
    theirs, _ = arff.loadarff(io.StringIO(text))
    ours = parse(text).rows
    assert np.array_equal(ours[:, 0], theirs["x"])
    assert [["a", "b"][int(k)] for k in ours[:, 1]] == [k.decode() for k in theirs["k"]]
