"""An attacker's file and a truth with ids: read, joined by id, and refused where they are not of the form."""

import io
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pytest

from dbrecon.errors import InputError
from dbrecon.recon.risk.attacker import draw_attacker
from dbrecon.recon.risk.record_files import read_attacker, read_truth, write_attacker, write_truth

PEOPLE = "geoid_tract,geoid_block,sex,age,white,black,aian,asian,nhopi,sor,hisp"
TRUTH = f"""id,{PEOPLE}
a,39059977100,390599771001000,male,30,Y,N,N,N,N,N,N
b,39059977100,390599771001000,female,101,N,Y,N,N,N,N,Y
"""


@dataclass(frozen=True)
class Text:
    name: str
    text: str

    def open(self) -> AbstractContextManager[IO[Any]]:
        return nullcontext(io.BytesIO(self.text.encode()))


def test_each_id_of_an_attacker_is_found_in_the_truth_or_not() -> None:
    truth = read_truth([Text("truth.csv", TRUTH)])
    rows = "id,geoid_block,sex,age\nb,390599771001000,female,101\nz,390599771001001,male,5\na,390599771001000,male,31\n"
    known = read_attacker([Text("known.csv", rows)], truth)
    assert known.true.tolist() == [1, -1, 0]
    assert known.true_rh.tolist() == [15 * 2 + 1, -1, 31 * 2]
    assert known.records.sa.tolist() == [103 + 100, 5, 31]
    assert known.by_id


def test_a_truth_without_ids_is_known_to_be_without() -> None:
    truth = read_truth([Text("truth.csv", TRUTH.replace("id,", "", 1).replace("a,390", "390", 1).replace("b,390", "390", 1))])
    known = read_attacker([Text("known.csv", "id,geoid_block,sex,age\na,390599771001000,male,30\n")], truth)
    assert truth.ids is None
    assert not known.by_id


def test_what_is_written_is_read_again() -> None:
    truth = read_truth([Text("truth.csv", TRUTH)])
    drawn, chosen = draw_attacker(truth.records, 1.0, 0.0, np.random.default_rng(0))
    out = io.BytesIO()
    write_attacker(drawn, ["a", "b"], out)
    assert out.getvalue().decode().splitlines()[1] == "a,390599771001000,male,30"
    again = read_attacker([Text("known.csv", out.getvalue().decode())], truth)
    assert again.true.tolist() == chosen.tolist()
    assert again.records.sa.tolist() == truth.records.sa.tolist()


def test_ids_may_have_commas_and_quotation_marks() -> None:
    ids, out = ["Doe, J", 'the "second"'], io.BytesIO()
    write_truth(read_truth([Text("truth.csv", TRUTH)]).records, ids, out)
    truth = read_truth([Text("truth.csv", out.getvalue().decode())])
    assert truth.ids is not None
    assert truth.ids.to_pylist() == ids


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("id,geoid_block,sex,age\na,390599771001000,male,30\na,390599771001000,male,31\n", "the id 'a' comes 2 times"),
        ("id,geoid_block,sex,age\n,390599771001000,male,30\n", "known.csv, line 2: id is ''"),
        ("id,geoid_block,sex\na,390599771001000,male\n", "the column age is missing; a file of an attacker has the columns id,"),
        ("id,geoid_block,sex,age\na,390599771001000,man,30\n", "line 2: sex is 'man'"),
        ("id,geoid_block,sex,age\na,10010201001000,male,30\n", "lost its leading zero"),
    ],
)
def test_what_is_not_of_the_form_is_refused_with_its_line(rows: str, said: str) -> None:
    truth = read_truth([Text("truth.csv", TRUTH)])
    with pytest.raises(InputError, match=said):
        read_attacker([Text("known.csv", rows)], truth)


def test_a_truth_of_which_some_files_have_ids_is_refused() -> None:
    plain = Text("two.csv", f"{PEOPLE}\n39059977100,390599771001000,male,30,Y,N,N,N,N,N,N\n")
    with pytest.raises(InputError, match=r"two\.csv: has no column id"):
        read_truth([Text("one.csv", TRUTH), plain])
