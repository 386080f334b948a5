"""LP text of other programs: read as they mean it, or refused for what it has. HiGHS passes over some of it without a word."""

import numpy as np
import pytest

from dbrecon.errors import InputError, SolverError, Subject
from dbrecon.recon.solve.lp_reader import read_lp
from dbrecon.recon.solve.program import Options, rounded
from dbrecon.recon.solve.solvers import solve

M, W = "M1002_040r32N", "F1002_041r32N"
BOTH = f"c1: {M} + {W} = 3"
WHOLE = f"General\n {M} {W}"


def program(constraints: str = BOTH, rest: str = WHOLE, objective: str = f"Maximize\n obj: {M}", to: str = "Subject To") -> bytes:
    return f"{objective}\n{to}\n {constraints}\n{rest}\nEnd\n".encode()


def answer(text: bytes) -> tuple[int, int]:
    """How many men and women."""
    named = read_lp(text, "p.lp")
    values = dict(zip(named.variables, solve(named.program, Options(), "p.lp").values.tolist(), strict=True))
    return values[M], values[W]


READ = {
    "section with a colon": (program(to="Subject To:"), (3, 0)),
    "st.": (program(to="st."), (3, 0)),
    "ST:": (program(to="ST:"), (3, 0)),
    "such that": (program(to="sUcH  thaT"), (3, 0)),
    "Minimise": (program(objective=f"Minimise\n obj: {M}"), (0, 3)),
    "max, a colon": (program(objective=f"max:\n {M}"), (3, 0)),
    "int": (program(rest=f"int\n {M} {W}"), (3, 0)),
    "< and >": (program(f"c1: {M} + {W} < 3\n c2: {W} > 1"), (2, 1)),
    "==": (program(f"c1: {M} + {W} == 3"), (3, 0)),
    "a bound turned": (program(rest=f"Bounds\n 2 >= {M} >= 1\n{WHOLE}"), (2, 1)),
    "bounds with <": (program(rest=f"Bounds\n {M} < 2\n{WHOLE}"), (2, 1)),
    "a term twice": (program(f"c1: {M} + {M} + {W} = 3\n c2: {W} >= 1"), (1, 1)),
    "a comment within": (program(f"c1: {M} \\ + 7 = 9\n + {W} = 3"), (3, 0)),
    "a row that begins with a sign": (program(f"{BOTH}\n + {W} >= 1\n - {M} <= - 1"), (2, 1)),
    "a range of a line": (program(f"{BOTH}\n 1 <= {W} <= 2"), (2, 1)),
    "a constraint called st": (program(f"st: {M} + {W} = 3"), (3, 0)),
    "names beyond UTF-8": (program(f"r\xe9gion: {M} + {W} = 3").decode().encode("latin-1"), (3, 0)),
    "a byte order mark": (b"\xef\xbb\xbf" + program(), (3, 0)),
    "a constant of 0": (program(f"c1: {M} + {W} + 0 = 3"), (3, 0)),
    "a constant in the objective": (program(objective=f"Maximize\n obj: {M} + 5"), (3, 0)),
    "what follows the first End": (program() + f"Subject To\n c2: {M} = 0\nEnd\n".encode(), (3, 0)),
}  # fmt: skip


@pytest.mark.parametrize("what", READ)
def test_what_others_write_is_read_as_they_mean_it(what: str) -> None:
    text, expected = READ[what]
    assert answer(text) == expected


HONOURED = "which are not supported here"
REFUSED = {
    "a constant": (program(f"c1: {M} + 3 >= 5\n c2: {M} <= 4"), rf"has constants left of a relation \(3\), {HONOURED}"),
    "a constant in front": (program(f"c1: 3 + {M} >= 5\n c2: {M} <= 4"), rf"has constants left of a relation \(3\), {HONOURED}"),
    "a constant in the next line": (program(f"c1: {M} +\n 2 <= 5"), rf"has constants left of a relation \(2\), {HONOURED}"),
    "no number": (program(f"c1: nan {M} + {W} = 3"), f"has coefficients that are no numbers, {HONOURED}"),
    "two objectives": (program(objective=f"Minimize\n a: {M}\nMaximize\n b: {W}"), f"has several objectives, {HONOURED}"),
    "words in front": (b"The program\n" + program(), r"words before its first section \('The program'\)"),
    "a scenario": (program(rest=f"{WHOLE}\nScenario s"), f"has scenarios, {HONOURED}"),
    "semi-integers": (program(rest=f"{WHOLE}\nSemi-Integer\n {M}"), f"has semi-continuous variables, {HONOURED}"),
    "ranges": (program(rest=f"Ranges\n c1: 1\n{WHOLE}"), "has ranges in a section of their own"),
    "a square": (program(f"c1: {M} ^ 2 = 4"), f"has quadratic terms, {HONOURED}"),
    "brackets": (program(f"{BOTH}\n c2: x[1] >= 0"), f"has names with brackets, {HONOURED}"),
    "an unknown section": (program(rest=f"{WHOLE}\nHints\n x"), "'Hints' stands in no constraint and counts nobody"),
    "fewer than nobody": (program(rest=f"Bounds\n -5 <= {M} <= 9\n{WHOLE}"), f"the variable {M} may be -5, but variables here"),
    "free": (program(rest=f"Bounds\n {M} free\n{WHOLE}"), f"the variable {M} may be -inf, but variables here count people"),
    "more than all": (program(f"c1: {M} = 12345678901234567890"), "has a bound beyond 9,007,199,254,740,992"),
    "nothing that is read": (program(f"c1: {M} is 3"), f"p.lp, line 4: 'c1: {M} is 3' is nothing that HiGHS can read"),
    "the second of three": (program(f"{BOTH}\n {M} <\n  nan\n c3: {W} = 3"), f"p.lp, line 5: '{M} <' is nothing that HiGHS can"),
    "a bound": (program(rest=f"Bounds\n {M} <= 5\n {W} <= many\n{WHOLE}"), f"p.lp, line 7: '{W} <= many' is nothing that HiGHS"),
    "no constraints": (f"Maximize\n obj: {M}\n{WHOLE}\nEnd\n".encode(), "p.lp: this is no LP file: HiGHS finds no constraints"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_be_another_program_is_refused_by_name(what: str) -> None:
    text, said = REFUSED[what]
    with pytest.raises(InputError, match=said) as error:
        read_lp(text, "p.lp")
    assert error.value.about is (Subject.LP_DIALECT if "HiGHS" in said else None), "another copy does not help"


def test_an_answer_of_more_people_than_can_be_counted_is_none() -> None:
    for value in (1e19, np.nan):
        with pytest.raises(SolverError, match="gave a value that is no integer"):
            rounded(np.array([value]), "tract 1", "HiGHS")
