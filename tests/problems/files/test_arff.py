import math

import numpy as np
import pytest

from equipoise.problems.files.arff import Attribute, parse

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


def test_a_table_reads_as_scipy_reads_it():
    import io

    from scipy.io import arff

    lines = [f"{k / 7},{'ab'[k % 2]}" for k in range(50)]
    text = "@relation r\n@attribute x numeric\n@attribute k {a,b}\n@data\n" + "\n".join(lines)
    theirs, _ = arff.loadarff(io.StringIO(text))
    ours = parse(text).rows
    assert np.array_equal(ours[:, 0], theirs["x"])
    assert [["a", "b"][int(k)] for k in ours[:, 1]] == [k.decode() for k in theirs["k"]]
