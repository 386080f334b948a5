"""CSV files read a piece at a time and parsed by pyarrow, in this thread alone.

pyarrow's own streaming reader reads ahead in a thread. A process that ends with an error while that thread waits for a Python file
(one on S3, say) is aborted, and its exit code is lost.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv

BOM = b"\xef\xbb\xbf"


class CsvPieces:
    """A CSV file that is open: ``names`` of its columns, by its first line; iterating yields its rows as record batches."""

    def __init__(
        self,
        file: IO[Any],
        types: Mapping[str, pa.DataType],
        block_bytes: int,
        null_values: Sequence[str] = (),
        delimiters: str = ",",
    ) -> None:
        """``types`` are those of the columns that are wanted: others are left out, and so are those that the file has not.
        The first of ``delimiters`` that the first line has stands between columns.

        Raises pyarrow.ArrowInvalid for an empty file, UnicodeDecodeError where the first line is no text.
        """
        self._file, self._block_bytes = file, block_bytes
        head = file.readline().removeprefix(BOM)
        if not head:
            raise pa.ArrowInvalid("Empty CSV file")
        first = re.split(rb"(?<=\r)(?!\n)", head, maxsplit=1)[0]  # lines may end in a carriage return alone
        line = first.decode("utf-8")
        self._delimiter = next((delimiter for delimiter in delimiters if delimiter in line), delimiters[0])
        self.names: list[str] = next(csv.reader([line], delimiter=self._delimiter), [])
        self._rest: bytes = head[len(first) :]
        self._convert = pacsv.ConvertOptions(
            include_columns=[name for name in dict.fromkeys(self.names) if name in types],
            column_types=dict(types),
            strings_can_be_null=False,
            null_values=list(null_values),
        )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows. Raises pyarrow.ArrowInvalid for what is no such file; rows are counted from 1, the first line."""
        line = 2
        while piece := self._piece():
            for batch in self._parsed(piece, line):
                yield batch
                line += batch.num_rows

    def _piece(self) -> bytes:
        """Return some more whole lines; nothing at the end."""
        while True:
            more = self._file.read(self._block_bytes)
            end = self._rest.rfind(b"\n") + 1 if more else len(self._rest)
            if end:
                piece, self._rest = self._rest[:end], self._rest[end:] + more
                return piece
            self._rest += more
            if not self._rest:
                return b""

    def _parsed(self, piece: bytes, line: int) -> list[pa.RecordBatch]:
        options = pacsv.ReadOptions(column_names=self.names, use_threads=False, block_size=len(piece) + 1)
        parse = pacsv.ParseOptions(delimiter=self._delimiter, newlines_in_values=False, ignore_empty_lines=False)
        try:
            table = pacsv.read_csv(pa.BufferReader(piece), options, parse, self._convert)
        except pa.ArrowInvalid as error:
            message = re.sub(r"(?<=Row #)\d+", lambda row: str(int(row[0]) + line - 1), str(error))
            raise pa.ArrowInvalid(message) from None
        return list(table.to_batches())
