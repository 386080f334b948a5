"""The library's files may lie on S3: read and written there as in a folder."""

from pathlib import Path

import dbrecon
from dbrecon.ctools.storage import sopen
from tests.s3_servers import moto_server, s3_root

__all__ = ["moto_server", "s3_root"]


def test_a_county_is_read_from_s3_and_its_people_written_there(s3_root: str, tmp_path: Path) -> None:
    state = dbrecon.make_state(4000, counties=2, seed=3)
    path = Path(state.write_zip(tmp_path))
    with sopen(f"{s3_root}/dist/{path.name}", "wb") as file:
        file.write(path.read_bytes())
    county = state.counties[0]
    published = dbrecon.read_tables(f"{s3_root}/dist/{path.name}", county, frames="pandas")
    assert dbrecon.read_tables(f"{s3_root}/dist", county).tracts == published.tracts
    found = dbrecon.reconstruct(published)
    found.write(f"{s3_root}/out")
    assert dbrecon.read_people(f"{s3_root}/out/people.csv", "pandas").equals(found.people())
    solution = dbrecon.read_solution(f"{s3_root}/out/sol/model_{published.tracts[0]}.sol.gz", "pandas")
    assert solution["count"].sum() == found.by_tract[published.tracts[0]].people.population
