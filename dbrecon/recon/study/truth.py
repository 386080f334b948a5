"""The true people of an evaluation: one file or several, sorted into a temporary file for each county."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from dbrecon.errors import InputError
from dbrecon.recon.census.categories import EVERY_KIND, Categories
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.people.people import People
from dbrecon.recon.people.people_reader import iter_people

_COUNTY_OF_BLOCK = 10**10


class TruthFile(NamedTuple):
    """A file of true people: what errors call it, and what opens it as bytes for a ``with`` block."""

    name: str
    open: Callable[[], AbstractContextManager[IO[Any]]]


@contextmanager
def sorted_by_county(
    files: Sequence[TruthFile], wanted: set[str], categories: Categories = EVERY_KIND
) -> Iterator[tuple[dict[str, Path], dict[str, int]]]:
    """Yield the files' people: for each county (SSCCC) of ``wanted`` what :func:`load_county` reads; how many people the others
    have. ``categories`` are those in which the product knows them.

    Raises InputError for a file that is not of the form, and for a block of which two files have people.
    """
    with tempfile.TemporaryDirectory(prefix="dbrecon-truth-") as folder:
        sorting = _Sorting(Path(folder), wanted, categories)
        for file in files:
            sorting.add(file)
        yield sorting.files, dict(sorted(sorting.left_out.items()))


def load_county(path: Path) -> People:
    """Return a county of :func:`sorted_by_county`."""
    records = np.fromfile(path, np.int64).reshape(-1, 2)
    return People(records[:, 0], records[:, 1], np.ones(len(records), np.int64))


class _Sorting:
    """What has been sorted so far. ``blocks`` are those of each county in the files before, by file."""

    def __init__(self, folder: Path, wanted: set[str], categories: Categories) -> None:
        self._folder = folder
        self._wanted = wanted
        self._categories = categories
        self.files: dict[str, Path] = {}
        self.left_out: dict[str, int] = {}
        self._blocks: dict[str, dict[str, IntArray]] = {}

    def add(self, file: TruthFile) -> None:
        """Append a file's people to their counties' files."""
        of_file: dict[str, IntArray] = {}
        with file.open() as opened:
            for piece in iter_people(opened, file.name):
                county = piece.geoid_block // _COUNTY_OF_BLOCK
                for number in np.unique(county).tolist():
                    code, here = f"{number:05d}", county == number
                    if code not in self._wanted:
                        self.left_out[code] = self.left_out.get(code, 0) + int(here.sum())
                        continue
                    self._append(code, piece, here)
                    of_file[code] = np.union1d(of_file.get(code, np.empty(0, np.int64)), piece.geoid_block[here])
        for code, blocks in of_file.items():
            self._check_once(code, blocks, file.name)

    def _append(self, code: str, piece: People, here: Any) -> None:
        self.files[code] = self._folder / code
        with self.files[code].open("ab") as file:
            file.write(np.stack([piece.geoid_block[here], self._categories.standing_for(piece.kind[here])], axis=1).tobytes())

    def _check_once(self, code: str, blocks: IntArray, name: str) -> None:
        before = self._blocks.setdefault(code, {})
        for other, theirs in before.items():
            both = np.intersect1d(blocks, theirs)
            if len(both):
                raise InputError(
                    f"{name}: has people of block {int(both[0]):015d}, of which {other} has people too; give each person once."
                )
        before[name] = blocks
