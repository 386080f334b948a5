"""CSV in pieces: the same rows however it is cut, errors with their line, and a process that ends as it should."""

import io
import subprocess
import sys

import pyarrow as pa
import pytest

from dbrecon.recon.csv_pieces import CsvPieces
from tests.paths import CHECKOUT

TYPES = {"a": pa.string(), "b": pa.int64()}


def rows(text: bytes, block_bytes: int) -> list[dict[str, object]]:
    return [row for batch in CsvPieces(io.BytesIO(text), TYPES, block_bytes) for row in batch.to_pylist()]


@pytest.mark.parametrize("block_bytes", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    "text",
    [
        b"a,b\nx,1\ny,2\n",
        b"b,c,a\n1,,x\n2,,y",
        b"\xef\xbb\xbfa,b\r\nx,1\r\ny,2\r\n",
        b"a,b\rx,1\ry,2\r",
        b'"a","b"\n"x","1"\n"y",2\n',
    ],
)
def test_rows_are_the_same_however_the_file_is_cut(text: bytes, block_bytes: int) -> None:
    found = [{name: row[name] for name in TYPES} for row in rows(text, block_bytes)]
    assert found == [{"a": "x", "b": 1}, {"a": "y", "b": 2}]


@pytest.mark.parametrize("block_bytes", [1, 9, 1000])
def test_an_error_names_the_line_of_the_file(block_bytes: int) -> None:
    with pytest.raises(pa.ArrowInvalid, match="Row #4: Expected 2 columns, got 1: z"):
        rows(b"a,b\nx,1\ny,2\nz\n", block_bytes)


def test_a_file_of_a_header_alone_has_names_and_no_rows_and_an_empty_one_is_refused() -> None:
    assert (CsvPieces(io.BytesIO(b"a,b"), TYPES, 10).names, rows(b"a,b\n", 10)) == (["a", "b"], [])
    with pytest.raises(pa.ArrowInvalid, match="Empty CSV file"):
        rows(b"", 10)


ENDS = """
import io, sys, threading
from dbrecon.recon.people.record_reader import Form, iter_records
from dbrecon.errors import InputError
class Slow(io.BytesIO):
    def read(self, *size):
        if self.tell() > 100:
            threading.Event().wait(0.2)  # a store that is slow
        return super().read(*size)
try:
    list(iter_records(Slow(b"a,b\\n1\\n" + b"1,2\\n" * 3_000_000), "x.csv", Form("people", ("a", "b"))))
except InputError:
    sys.exit(3)
"""


def test_a_process_that_ends_while_its_file_is_slow_ends_with_its_own_code() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
