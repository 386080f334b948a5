"""Solution files, and step 5: from the solutions of a county's tracts to its people."""

import gzip
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbrecon.ctools.cli import explain
from dbrecon.ctools.database import make_engine
from dbrecon.ctools.staging import accept, digest_of
from dbrecon.ctools.storage import sopen
from dbrecon.errors import InputError, StorageError, Subject, UsageError, VerificationError
from dbrecon.experiment import Experiment
from dbrecon.ledger.ledger import Ledger, LpStats, SolStats, Worker
from dbrecon.ledger.records import CountyClaim, SolvedTract
from dbrecon.place import Place
from dbrecon.recon.census.kinds import FIRST_AGES, N_KINDS, join_kind, split_kind
from dbrecon.recon.census.tables import Product, load_product
from dbrecon.recon.people.people import BinnedPeople
from dbrecon.recon.people.solution import Solution, format_named_solution, format_solution, parse_solution
from dbrecon.recon.people.variable_names import decode_names, variable_names
from dbrecon.recon.tract.county_tables import CountyFile, CountyTables
from dbrecon.remedies import sentence
from dbrecon.settings import Config
from dbrecon.steps.microdata import make_counties, make_microdata
from tests.helpers import TractRow, county_texts, geography, put_county_files
from tests.paths import CHECKOUT, SHARED_DATA

PREDECESSOR = SHARED_DATA / "predecessor" / "model_29165030307.sol.gz"
TRACT = "39059977100"
TITLE = f"# Solution of tract {TRACT}\n"
OLD = "C_390599771001018_male_45.0_0_male_47_Y_N_N_N_N_N_N"


def kind_of(sex: int, age: int, race: int, hisp: int) -> int:
    return int(join_kind(*(np.array([item]) for item in (sex, age, race, hisp)))[0])


def entries(*rows: tuple[int, int, int]) -> BinnedPeople:
    block, kind, count = np.array(rows, np.int64).reshape(-1, 3).T
    return BinnedPeople(block, kind, split_kind(kind)[1], count)


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_name_says_sex_block_age_races_and_origin() -> None:
    names = variable_names(np.array([1018, 390599771000007]), np.array([kind_of(0, 45, 32, 0), kind_of(1, 102, 5, 1)]))
    assert names.tolist() == [b"M1018_045r32N", b"F0007_110r05H"]


def test_every_kind_has_its_own_name_that_decodes_to_it() -> None:
    kinds = np.arange(N_KINDS)
    names = variable_names(kinds % 10_000, kinds)
    assert len(set(names.tolist())) == N_KINDS
    block, kind, last = decode_names([name.decode() for name in names], TRACT, "model.lp", Subject.LP_FILE)
    np.testing.assert_array_equal(last, split_kind(kinds)[1])
    np.testing.assert_array_equal(kind, kinds)
    np.testing.assert_array_equal(block, int(TRACT) * 10_000 + kinds % 10_000)


def test_both_spellings_and_dummies_are_decoded() -> None:
    names = ["__dummy", "M1018_045r32N", OLD, "__nobody", "M1018_045_049r32N"]
    block, kind, last = decode_names(names, TRACT, "model.lp", Subject.LP_FILE)
    assert block.tolist() == [-1, 390599771001018, 390599771001018, -1, 390599771001018]
    assert kind.tolist() == [-1, kind_of(0, 45, 32, 0), kind_of(0, 47, 32, 0), -1, kind_of(0, 45, 32, 0)]
    assert last.tolist()[1:3] + last.tolist()[4:] == [45, 47, 49]


@pytest.mark.parametrize(
    "name",
    [
        "x1", "", "M1018_045r32", "M1018_045r32NN", "X1018_045r32N", "M1018_045r32Q", "M1018_045r00N", "M1018_045r64N",
        "M1018_101r32N", "M1018_115r32N", "M10 8_045r32N", "M1018-045r32N", "Mü018_045r32N",
        OLD.replace("male_47", "female_47"), OLD.replace("_47_", "_147_"), OLD.replace("Y", "N"), OLD + "_N", "M1018_045r32N ",
        "M1018_045r32N\0", "M1018_049_045r32N", "M1018_045_045r32N", "M1018_045_101r32N",
        "M1018_045_049r3N", "M1018_045_049_32N",
    ],
)  # fmt: skip
def test_a_name_that_is_no_persons_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.lp: "):
        decode_names(["M1018_045r32N", name], TRACT, "model.lp", Subject.LP_FILE)


def test_our_names_need_the_tract() -> None:
    with pytest.raises(InputError, match="does not say which tract"):
        decode_names(["M1018_045r32N"], None, "model.lp", Subject.LP_FILE)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_solution_file_is_gurobis_text() -> None:
    rows = entries((1018, kind_of(0, 45, 32, 0), 12), (1018, kind_of(0, 46, 32, 0), 0), (1019, kind_of(1, 0, 63, 1), 3))
    assert format_solution(TRACT, rows, {"solver": "HiGHS 1.15"}).decode() == (
        TITLE + "# solver = HiGHS 1.15\nM1018_045r32N 12\nF1019_000r63H 3\n"
    )


def test_a_program_read_from_a_file_is_answered_in_its_own_names() -> None:
    text = format_named_solution(TRACT, ["__dummy", OLD, "M1018_045r32N"], np.array([0, 1, 2]), {"seed": "7"})
    assert text.decode() == f"{TITLE}# seed = 7\n{OLD} 1\nM1018_045r32N 2\n"
    assert parse_solution(text, "x.sol").people.population == 3


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(0, N_KINDS - 1), st.integers(0, 99_999)), max_size=40))
def test_what_is_written_is_parsed_again(rows: list[tuple[int, int, int]]) -> None:
    once = {(block, kind): count for block, kind, count in rows}
    people = entries(*((*key, count) for key, count in once.items()))
    solution = parse_solution(format_solution(TRACT, people, {"seed": "7"}), "x.sol")
    found = zip(solution.people.geoid_block % 10_000, solution.people.kind, solution.people.count, strict=True)
    assert {(int(b), int(k)): int(n) for b, k, n in found} == {key: n for key, n in once.items() if n}
    assert (solution.tract, solution.notes) == (TRACT, {"seed": "7"})


def test_the_predecessors_solution_is_eleven_people() -> None:
    if not PREDECESSOR.exists():
        pytest.skip("needs ../shared/data/predecessor, which is not here")
    text = gzip.decompress(PREDECESSOR.read_bytes())
    solution = parse_solution(text, PREDECESSOR.name)
    # The plain way: the names whose value is 1.
    names = [line.split()[0].split("_") for line in text.decode().splitlines() if line.endswith(" 1")]
    expected = sorted((int(name[1]), ["male", "female"].index(name[5]), int(name[6])) for name in names)
    sex, age, race, hisp = split_kind(solution.people.kind)
    assert solution.tract == "29165030307"
    assert sorted(zip(solution.people.geoid_block.tolist(), sex.tolist(), FIRST_AGES[age].tolist(), strict=True)) == expected
    assert solution.people.count.tolist() == [1] * 11
    assert set(race.tolist()) == {32}
    assert set(hisp.tolist()) == {0}


def test_what_gurobi_prints_of_our_program_is_read() -> None:
    text = "# Solution for model obj\n# Objective value = 0\n__nobody 0\nM1018_045r32N 0.9999999999\nM1018_046r32N 0\n"
    text += "F1018_045r32N 2e+00\nM1018_047r32N -0\nM1018_048r32N -1.2e-09\r\nM1018_049r32N 1.0000000000000002e+01\n"
    solution = parse_solution(text.encode(), "x.sol", TRACT)
    assert solution.people.count.tolist() == [1, 10, 2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("M1018_045r32N 0.5", "does not count whole people"),
        ("M1018_045r32N 1.00001", "does not count whole people"),
        ("M1018_045r32N -1", "counts fewer than no people"),
        ("M1018_045r32N 1e300", "counts more people than there are"),
        ("M1018_045r32N nan", "does not end in a number"),
        ("M1018_045r32N 1_0", "does not end in a number"),
        ("M1018_045r32N 1 2", "does not end in a number"),
        ("M1018_045r32N ", "does not end in a number"),
        ("M1018_045r32N 0x1", "does not end in a number"),
        ("M1018_045r32N " + "1" * 50, "does not end in a number"),
        ("M1018_045r32N", "is not a variable's name and its value"),
        (" 1", "is not a variable's name and its value"),
        ("M1018_045r99N 1", "names nobody"),
        ("x 1", "names nobody"),
        (OLD.replace("Y", "N") + " 1", "names nobody"),
        ("F1018_000r32N 4", "gives a variable a second time"),
    ],
)
def test_a_malformed_line_is_named_with_its_number(line: str, said: str) -> None:
    text = f"{TITLE}# seed = 0\n\nF1018_000r32N 4\nF1018_001r32N 4\n{line}\nF1018_002r32N 1\n"
    with pytest.raises(InputError, match=rf"^x\.sol, line 6: {said}") as caught:
        parse_solution(text.encode(), "x.sol")
    assert sentence(caught.value).endswith("; make the solution again (--step4 --force)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (TITLE + "M1018_045r32N 1", "is cut off in its last line"),
        ("M1018_045r32N 1\n", "does not say which tract"),
        ("# nothing\n", "has neither a tract nor people"),
        (TITLE + OLD.replace("C_39059", "C_39061") + " 1\n", "is not in tract 39059977100"),
        (OLD + " 1\n" + OLD + " 1\n", "a second time"),
    ],
)
def test_a_file_that_is_no_solution_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_solution(text.encode(), "x.sol")


def test_the_solution_of_another_tract_is_refused() -> None:
    with pytest.raises(InputError, match="is the solution of tract 39059977100, not of 39059977200"):
        parse_solution((TITLE + "M1018_045r32N 1\n").encode(), "x.sol", "39059977200")


# --- step 5 ----------------------------------------------------------------------------------------------------------

TRACTS = [("977200", 3), ("977100", 2), ("990000", 0)]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment.make("test", Config.load(env={"DAS_S3ROOT": str(tmp_path)}))


def solve(experiment: Experiment, tract: str, rows: list[tuple[int, int, int]]) -> None:
    with sopen(experiment.sol("oh", "059", tract), "wb") as file:
        file.write(format_solution("39059" + tract, entries(*rows)))


PEOPLE = {
    "977200": [(1001, kind_of(1, 30, 32, 0), 1), (1000, kind_of(0, 101, 6, 1), 2)],
    "977100": [(2000, kind_of(0, 9, 16, 0), 2)],
}


@lru_cache
def product() -> Product:
    return load_product()


def solve_all(experiment: Experiment) -> None:
    for tract, rows in PEOPLE.items():
        solve(experiment, tract, rows)


def write_people(experiment: Experiment, solved: Iterable[tuple[str, int]] = TRACTS, **digests: str) -> int:
    """Step 5 of county 059, put in its place. ``digests`` (tNNNNNN): of accepted solutions; others were accepted unseen."""
    blocks, tracts = county_texts(product(), "39059", PEOPLE)
    county = CountyTables(product(), "39059", CountyFile(blocks, "blocks.csv"), CountyFile(tracts, "tracts.csv"))
    tracts_of = tuple(SolvedTract(tract, pop, digests.get(f"t{tract}", "")) for tract, pop in sorted(solved) if pop)
    claim = CountyClaim("test", "oh", "39", "059", tracts_of, 5, 0, Worker("host", "1"), "token")
    people, file = make_microdata(experiment, county, claim)
    accept(file)
    return people


def test_the_county_is_its_tracts_in_order(experiment: Experiment) -> None:
    solve_all(experiment)
    assert write_people(experiment) == 5
    rows = Path(experiment.synth_out("oh", "059")).read_text().splitlines()
    assert rows[1:] == [
        "39059977100,390599771002000,male,9,N,Y,N,N,N,N,N",
        "39059977100,390599771002000,male,9,N,Y,N,N,N,N,N",
        "39059977200,390599772001000,male,105,N,N,N,Y,Y,N,Y",
        "39059977200,390599772001000,male,105,N,N,N,Y,Y,N,Y",
        "39059977200,390599772001001,female,30,Y,N,N,N,N,N,N",
    ]


def test_writing_a_county_twice_gives_the_same_bytes(experiment: Experiment) -> None:
    solve_all(experiment)
    path = Path(experiment.synth_out("oh", "059"))
    write_people(experiment)
    first = path.read_bytes()
    write_people(experiment)
    assert path.read_bytes() == first


def test_a_tract_without_solution_is_named_and_no_file_is_left(experiment: Experiment) -> None:
    solve_all(experiment)
    os.unlink(experiment.sol("oh", "059", "977200"))
    with pytest.raises(InputError, match=r"no solution of tract oh 059 977200 with 3 people.*--step4 --force"):
        write_people(experiment)
    assert not [name for name in os.listdir(experiment.county_dir("oh", "059")) if "synth" in name]


def test_a_solution_with_another_number_of_people_is_refused(experiment: Experiment) -> None:
    solve_all(experiment)
    solve(experiment, "977100", [(2000, kind_of(0, 9, 16, 0), 1)])
    with pytest.raises(VerificationError, match=r"oh 059 977100 has 1 person, the tables 2.*--step4 --force"):
        write_people(experiment)
    assert not os.path.exists(experiment.synth_out("oh", "059"))


def test_a_failed_rewrite_leaves_the_old_file(experiment: Experiment) -> None:
    solve_all(experiment)
    write_people(experiment)
    before = Path(experiment.synth_out("oh", "059")).read_bytes()
    solve(experiment, "977200", [(1001, 5, 2)])
    with pytest.raises(VerificationError):
        write_people(experiment)
    assert Path(experiment.synth_out("oh", "059")).read_bytes() == before


def test_a_damaged_solution_is_a_sentence(experiment: Experiment) -> None:
    solve_all(experiment)
    path = Path(experiment.sol("oh", "059", "977100"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises((InputError, StorageError), match="977100"):
        write_people(experiment)


def test_a_solution_under_another_tracts_name_is_refused(experiment: Experiment) -> None:
    solve_all(experiment)
    os.replace(experiment.sol("oh", "059", "977200"), experiment.sol("oh", "059", "977100"))
    with pytest.raises(InputError, match="is the solution of tract 39059977200, not of 39059977100"):
        write_people(experiment)


def test_a_solution_that_is_cut_off_is_told_once(experiment: Experiment) -> None:
    solve_all(experiment)
    path = Path(experiment.sol("oh", "059", "977100"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=f"^{path}: the solution of tract oh 059 977100 is not a whole gzip file") as refused:
        write_people(experiment)
    assert explain(refused.value) == str(refused.value)


def test_a_solution_that_was_not_accepted_is_not_read(experiment: Experiment) -> None:
    """Edited between steps 4 and 5, or put there by a worker that had lost its claim."""
    solve_all(experiment)
    accepted = digest_of(experiment.sol("oh", "059", "977100"))
    solve(experiment, "977100", [(2000, kind_of(1, 9, 16, 0), 2)])
    with pytest.raises(InputError, match=r"977100.sol.gz: is not the solution of tract oh 059 977100 as the ledger has it"):
        write_people(experiment, t977100=accepted)
    assert not [name for name in os.listdir(experiment.county_dir("oh", "059")) if "synth" in name]


def test_people_that_do_not_make_a_published_cell_are_refused(experiment: Experiment) -> None:
    """As many as published, but in another block; the solution was accepted, or nothing is known of it."""
    solve_all(experiment)
    solve(experiment, "977200", [(1000, kind_of(1, 30, 32, 0), 1), (1001, kind_of(0, 101, 6, 1), 2)])
    with pytest.raises(VerificationError, match=r"977200.sol.gz: its solution does not reproduce .*: P0010001 of block"):
        write_people(experiment)
    assert not [name for name in os.listdir(experiment.county_dir("oh", "059")) if "synth" in name]


# --- with the ledger -------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(experiment: Experiment, tmp_path: Path) -> Ledger:
    """An experiment with county 059 (two tracts with people, one of water) and county 061 (one tract), nothing solved."""
    ledger = Ledger(make_engine(sqlite_path=tmp_path / "2010-re" / "dbrecon.sqlite3"))
    ledger.register("test", "all", "2010_sf1")
    tracts = [TractRow("39", "059", tract, pop) for tract, pop in TRACTS] + [TractRow("39", "061", "000100", 1)]
    ledger.replace_geography("test", "oh", geography(tracts))
    put_county_files(experiment, ledger, Place("oh", "059"), county_texts(product(), "39059", PEOPLE))
    put_county_files(experiment, ledger, Place("oh", "061"), county_texts(product(), "39061", {"000100": [(1, 4, 1)]}))
    return ledger


def solved_in_ledger(ledger: Ledger, county: str, tracts: list[str]) -> None:
    worker = Worker("host", "1")
    for tract in tracts:
        [claim] = ledger.claim("test", worker, place=Place("oh", county, (tract,)))
        ledger.solved(claim, SolStats("HiGHS", 0.1), LpStats(1, 1, 1, 0.1))


def test_a_county_is_written_once_and_again_when_forced(experiment: Experiment, ledger: Ledger) -> None:
    solve_all(experiment)
    solved_in_ledger(ledger, "059", ["977100", "977200"])
    assert list(make_counties(experiment, ledger, Place("oh", "059"))) == [("059", 5)]
    assert list(make_counties(experiment, ledger, Place("oh", "059"))) == []
    assert list(make_counties(experiment, ledger, Place("oh", "059"), force=True)) == [("059", 5)]
    assert ledger.status("test").csv_completed == 2


def test_force_says_which_people_are_to_be_written_again(
    experiment: Experiment, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    solve_all(experiment)
    solved_in_ledger(ledger, "059", ["977100", "977200"])
    for _ in range(2):
        list(make_counties(experiment, ledger, Place("oh", "059"), force=True))
    assert [line for line in caplog.messages if "--force" in line] == ["--force: 1 written county of oh 059 is to be done again"]


def test_a_written_file_that_was_removed_is_made_again(experiment: Experiment, ledger: Ledger) -> None:
    solve_all(experiment)
    solved_in_ledger(ledger, "059", ["977100", "977200"])
    list(make_counties(experiment, ledger, Place("oh")))
    os.unlink(experiment.synth_out("oh", "059"))
    assert list(make_counties(experiment, ledger, Place("oh", "059"))) == [("059", 5)]


def test_a_county_with_unsolved_tracts_is_refused_with_their_names(experiment: Experiment, ledger: Ledger) -> None:
    solve_all(experiment)
    solved_in_ledger(ledger, "059", ["977100"])
    with pytest.raises(UsageError, match=r"not solved, 1 in all \(977200 \(new\)\): solve them first"):
        list(make_counties(experiment, ledger, Place("oh", "059")))
    assert list(make_counties(experiment, ledger, Place("oh"))) == []


def test_a_county_that_fails_stays_open_and_the_others_are_written(experiment: Experiment, ledger: Ledger) -> None:
    solve(experiment, "977100", PEOPLE["977100"])
    solved_in_ledger(ledger, "059", ["977100", "977200"])
    solved_in_ledger(ledger, "061", ["000100"])
    with sopen(experiment.sol("oh", "061", "000100"), "wb") as file:
        file.write(format_solution("39061000100", entries((1, 4, 1))))
    written = []
    with pytest.raises(InputError, match="no solution of tract oh 059 977200"):
        written += list(make_counties(experiment, ledger, Place("oh")))
    assert os.path.exists(experiment.synth_out("oh", "061"))
    solve_all(experiment)
    assert list(make_counties(experiment, ledger, Place("oh"))) == [("059", 5)]


def test_an_interrupted_county_leaves_no_file_and_can_be_written_at_once(
    experiment: Experiment, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    solve_all(experiment)
    solved_in_ledger(ledger, "059", ["977100", "977200"])

    def interrupted(text: bytes, source: str, tract: str | None = None) -> Solution:
        if tract == "39059977200":
            raise KeyboardInterrupt
        return parse_solution(text, source, tract)

    with monkeypatch.context() as patch:
        patch.setattr("dbrecon.steps.microdata.parse_solution", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(make_counties(experiment, ledger, Place("oh", "059")))
    assert sorted(os.listdir(experiment.county_dir("oh", "059"))) == ["sf1_block_39059.csv", "sf1_tract_39059.csv", "sol"]
    assert list(make_counties(experiment, ledger, Place("oh", "059"))) == [("059", 5)]


def test_the_command_writes_the_county_and_prints_where(experiment: Experiment, ledger: Ledger, tmp_path: Path) -> None:
    solve_all(experiment)
    solved_in_ledger(ledger, "059", ["977100", "977200"])
    done = command(tmp_path, "--reident", "test", "OH", "059")
    assert done.stdout == f"{experiment.synth_out('oh', '059')}: 5 people\n"
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--reident", "test", "oh", "999"], 2, "error: oh has no county 999: choose from 059, 061"),
        (["--reident", "test", "zz"], 2, "error: 'zz' is no state"),
        (["--reident", "other", "oh"], 5, "error: REIDENT other is not registered"),
        (["--reident", "a;drop", "oh"], 2, "error: 'a;drop' cannot name an experiment"),
        (["oh"], 2, "which experiment?"),
        (["--reident", "test"], 2, "name a state"),
        (["--reident", "test", "oh", "061"], 2, "not solved"),
    ],
)
def test_a_wrong_command_is_one_sentence(ledger: Ledger, tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = command(tmp_path, *arguments)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (code, "")


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MYSQL_", "REIDENT", "DBRECON_"))}
    env["DAS_S3ROOT"] = str(root)
    program = [sys.executable, str(CHECKOUT / "s5_make_microdata.py"), *arguments]
    return subprocess.run(program, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_people_keep_every_entry() -> None:
    people = entries((1, 2, 3), (1, 2, 4), (0, 1, 0))
    assert people.merged().count.tolist() == [7]
