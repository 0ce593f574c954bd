import gzip
import json
import math
import tracemalloc

import pytest

from crystalssl.datasets._split_json import read_split_json
from crystalssl.exceptions import DatasetError

TABLE = {"index": [0, 1, 2], "columns": ["a", "b"], "data": [[1, "x"], [2, 'q"],[\\'], [3, "é"]]}


def packed(text):
    return gzip.compress(text.encode("utf-8"))


@pytest.mark.parametrize("order", [("index", "columns", "data"), ("columns", "index", "data"), ("data", "columns")])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_reads_any_order_of_keys_and_any_spacing(order, indent, ascii_only):
    text = json.dumps({key: TABLE[key] for key in order}, indent=indent, ensure_ascii=ascii_only)
    assert read_split_json(packed(f" {text}\n"), {"b": str, "a": float}, "t") == {
        "b": ["x", 'q"],[\\', "é"],
        "a": [1.0, 2.0, 3.0],
    }


def test_reads_what_pandas_writes(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"a": [0.1, None, 3.0], "b": [[1], {"k": [2]}, "z"]})
    frame.to_json(tmp_path / "t.json.gz", orient="split")
    columns = read_split_json((tmp_path / "t.json.gz").read_bytes(), {"a": lambda v: v, "b": lambda v: v}, "t")
    assert columns == {"a": [0.1, None, 3.0], "b": [[1], {"k": [2]}, "z"]}


def test_reads_nan_and_an_empty_table():
    text = '{"columns": ["a"], "index": [0], "data": [[NaN]]}'
    assert math.isnan(read_split_json(packed(text), {"a": float}, "t")["a"][0])
    assert read_split_json(packed('{"columns": ["a"], "data": []}'), {"a": float}, "t") == {"a": []}


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_truncated_json_is_an_error(keep):
    text = json.dumps(TABLE)
    with pytest.raises(DatasetError, match="my file is not a complete JSON file"):
        read_split_json(packed(text[: int(keep * len(text.rstrip("]}")))]), {"a": float}, "my file")


def test_truncated_gzip_is_an_error():
    with pytest.raises(DatasetError, match="not a complete gzipped"):
        read_split_json(packed(json.dumps(TABLE))[:-20], {"a": float}, "t")


@pytest.mark.parametrize("text", ["{}", '{"columns": ["a"]}', '{"data": [[1]]}', '{"index": [], "rows": [1]}'])
def test_other_layouts_are_errors(text):
    with pytest.raises(DatasetError, match='"split" layout'):
        read_split_json(packed(text), {"a": float}, "t")


def test_missing_column_is_named_with_those_present():
    with pytest.raises(DatasetError, match="no column 'gap'; its columns are a, b"):
        read_split_json(packed(json.dumps(TABLE)), {"gap": float}, "t")


@pytest.mark.parametrize("row", [[2], [2, "y", 3], 7])
def test_row_of_another_length_is_named(row):
    text = json.dumps({"columns": ["a", "b"], "data": [[1, "x"], row]})
    with pytest.raises(DatasetError, match="t, row 1: not a list of 2 values"):
        read_split_json(packed(text), {"a": float}, "t")


def test_value_that_cannot_be_converted_is_named():
    with pytest.raises(DatasetError, match="t, row 0: column 'b' cannot be read"):
        read_split_json(packed(json.dumps(TABLE)), {"b": float}, "t")


def test_bomb_is_refused_on_the_way():
    """8 MiB of zeros compressed would be 8 GiB of text; more than the first 16 MiB must never be made."""
    bomb = gzip.compress(b" " * 2**25) * 256
    tracemalloc.start()
    with pytest.raises(DatasetError, match=r"t is not a complete gzipped text file .* bytes of it become .* or more"):
        read_split_json(bomb, {"a": float}, "t")
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
