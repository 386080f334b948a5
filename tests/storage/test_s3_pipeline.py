"""The whole job with S3 as the only storage: two schedulers, MariaDB, no local root; on good days and on bad ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers import forget_host
from tests.paths import CHECKOUT
from tests.s3_proxy import S3Proxy, Trouble
from tests.s3_servers import client, credentials, fresh_bucket, moto_server
from tests.waiting import wait_for

__all__ = ["moto_server"]

STUSAB, PEOPLE, COUNTIES = "de", 7000, 2
KMS_KEY = "alias/recon"
SMALL_BUDGET = "[certainty]\ntree_steps = 1000\nmip_checks = 20\ntract_steps = 20000\n"


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a short name: $TMPDIR is in it, and sockets in that, whose paths must not be long."""
    return tmp_path_factory.mktemp("t")


@dataclass
class Site:
    """One environment in which commands are run."""

    environment: dict[str, str]
    folder: Path

    def start(self, script: str, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MYSQL_", "DBRECON_"))}
        environment = kept | {"REIDENT": "r1", "TMPDIR": str(self.folder / "tmp"), "HOME": str(self.folder)}
        return subprocess.run(
            [sys.executable, script, *options],
            cwd=CHECKOUT,
            env=environment | self.environment | more,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def run(self, *options: str, **more: str) -> str:
        done = self.start("dbrtool.py", "-q", *options, **more)
        assert done.returncode == 0, f"{options}: {done.stdout}{done.stderr}"
        return done.stdout

    def schedule(self, *nodes: str) -> list[subprocess.CompletedProcess[str]]:
        """A scheduler on each of these nodes, all at once; their names are this run's alone."""
        hosts = [f"{node}-{os.getpid()}" for node in nodes]
        try:
            with ThreadPoolExecutor() as pool:
                return list(pool.map(lambda host: self.start("scheduler.py", "--reident", "r1", DBRECON_HOSTNAME=host), hosts))
        finally:
            for host in hosts:
                forget_host(host)

    def status(self) -> dict[str, object]:
        return dict(json.loads(self.run("--status", "--json")))


def new_site(folder: Path, **environment: str) -> Site:
    (folder / "tmp").mkdir(parents=True)
    settings = "[run]\nmax_lp = 1\nmax_sol = 1\nclaim_tracts = 2\n" + SMALL_BUDGET
    if environment.get("AWS_ENDPOINT_URL"):
        settings += f"[s3]\nkms_key = {KMS_KEY}\n"
        if "MYSQL_HOST" not in environment:
            settings += f"[db]\nsqlite = {folder / 'db.sqlite3'}\n"
    (folder / "config.ini").write_text(settings)
    return Site(environment | {"DBRECON_CONFIG": str(folder / "config.ini")}, folder)


@pytest.fixture(scope="module")
def state_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic state's zip."""
    path = tmp_path_factory.mktemp("zip") / f"{STUSAB}2010.sf1.zip"
    options = ["-q", "--stusab", STUSAB, "--people", str(PEOPLE), "--counties", str(COUNTIES), "--seed", "5", "--out", str(path)]
    subprocess.run([sys.executable, "bench/make_state.py", *options], cwd=CHECKOUT, check=True, capture_output=True, timeout=120)
    return path


@pytest.fixture(scope="module")
def local_files(state_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the same run makes on local files: name below work/ -> bytes."""
    folder = tmp_path_factory.mktemp("local")
    site = new_site(folder / "site", DAS_S3ROOT=str(folder / "root"))
    site.run("--register")
    shutil.copy(state_zip, folder / "root" / "2010-re" / "r1" / "dist")
    site.run("--step1", "--step2")
    site.run("--run")
    work = folder / "root" / "2010-re" / "r1" / "work"
    return {str(path.relative_to(work)): path.read_bytes() for path in work.rglob("*") if path.is_file()}


@dataclass
class Bucket:
    """A bucket that keeps every version of every object, behind a proxy."""

    name: str
    endpoint: str
    proxy: S3Proxy

    @property
    def root(self) -> str:
        return f"s3://{self.name}/das"

    def versions(self) -> list[tuple[str, bytes, dict[str, str]]]:
        """Everything that was ever to be seen below work/: name, bytes, what its head says."""
        s3, prefix = client(self.endpoint), "das/2010-re/r1/work/"
        found = []
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=self.name, Prefix=prefix):
            for file in page.get("Versions", []):
                got = s3.get_object(Bucket=self.name, Key=file["Key"], VersionId=file["VersionId"])
                found.append((file["Key"].removeprefix(prefix), got["Body"].read(), got))
        return found

    def files(self) -> dict[str, bytes]:
        """What is there now below work/."""
        s3, prefix = client(self.endpoint), "das/2010-re/r1/work/"
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        keys = [file["Key"] for page in pages for file in page.get("Contents", [])]
        return {key.removeprefix(prefix): s3.get_object(Bucket=self.name, Key=key)["Body"].read() for key in keys}


@pytest.fixture
def bucket(moto_server: str, state_zip: Path) -> Iterator[Bucket]:
    """With the state's zip in it."""
    name = fresh_bucket(moto_server)
    s3 = client(moto_server)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=name, Key=f"das/2010-re/r1/dist/{state_zip.name}", Body=state_zip.read_bytes())
    with S3Proxy(moto_server) as proxy:
        yield Bucket(name, moto_server, proxy)


def site_of(bucket: Bucket, folder: Path, **database: str) -> Site:
    return new_site(folder, DAS_S3ROOT=bucket.root, **credentials(bucket.proxy.url), **database)


@pytest.mark.mariadb
def test_two_schedulers_on_s3_and_mariadb_make_what_local_files_have(
    bucket: Bucket, tmp_path: Path, mariadb_env: dict[str, str], local_files: dict[str, bytes]
) -> None:
    """And: every object is encrypted, nothing stays on the nodes' disks, the requests of a tract are few and list nothing."""
    site = site_of(bucket, tmp_path / "s3", **mariadb_env)
    site.run("--register")
    site.run("--step1", "--step2")
    bucket.proxy.log.clear()
    nodes = site.schedule("one", "two")
    assert [done.returncode for done in nodes] == [0, 0], [done.stderr for done in nodes]
    solved = [int(number) for done in nodes for number in re.findall(r"(\d+) tracts? solved", done.stdout)]
    assert sum(solved) == site.status()["sol_created"]
    assert bucket.files() == local_files
    assert {(head["ServerSideEncryption"], head["SSEKMSKeyId"]) for _, _, head in bucket.versions()} == {("aws:kms", KMS_KEY)}
    assert [path for path in (site.folder / "tmp").rglob("*") if path.is_file()] == []

    tracts = sum(name.endswith(".sol.gz") for name in local_files)
    log = Counter((method, kind_of(target)) for method, target in bucket.proxy.log if "/work/" in target)
    assert not any("list-type" in target for _, target in bucket.proxy.log)
    assert log["PUT", "lp"] == log["PUT", "sol"] == log["GET", "sol"] == tracts
    assert log["PUT", "synth_out"] == COUNTIES
    assert log["GET", "sf1_block"] == log["GET", "sf1_tract"] <= tracts + COUNTIES
    assert sum(log.values()) <= 5 * tracts + 3 * COUNTIES + log["HEAD", "sf1_block"] + log["HEAD", "sf1_tract"]


def kind_of(target: str) -> str:
    """What kind of file a request is about."""
    match = re.search(r"\.(lp|sol)\.gz|(synth_out|sf1_block|sf1_tract|geofile)_", target)
    return "other" if match is None else match[1] or match[2]


def strikes(trouble: Trouble, files: dict[str, bytes]) -> bool:
    """Whether the worst kinds of trouble come over some tract's files, whichever node works on it."""
    keys = [f"/bucket/das/2010-re/r1/work/{name}" for name in files if "/lp/" in name or "/sol/" in name]
    uploads = {trouble.of("PUT", key, 1) for key in keys}
    reads = {trouble.of("GET", key, 1) for key in keys if "/sol/" in key}
    return {"slow_down", "reset", "lost_answer"} <= uploads and "cut" in reads


@pytest.mark.mariadb
def test_on_a_bad_network_the_run_ends_complete_and_nothing_damaged_was_ever_to_be_seen(
    bucket: Bucket, tmp_path: Path, mariadb_env: dict[str, str], local_files: dict[str, bytes]
) -> None:
    rates = {"slow_down": 0.015, "error": 0.04, "reset": 0.06, "lost_answer": 0.05, "cut": 0.06, "slow": 0.04}
    bucket.proxy.trouble = next(trouble for seed in range(100_000) if strikes(trouble := Trouble(seed, rates), local_files))
    site = site_of(bucket, tmp_path / "s3", **mariadb_env)
    site.run("--register")
    site.run("--step1", "--step2")
    nodes = site.schedule("one", "two")
    assert [done.returncode for done in nodes] == [0, 0], [done.stderr for done in nodes]
    assert bucket.files() == local_files
    assert {name: data for name, data, _ in bucket.versions() if local_files.get(name) != data} == {}
    assert {"slow_down", "reset", "lost_answer", "cut"} <= set(bucket.proxy.struck)


def test_a_tract_whose_upload_failed_is_not_done(bucket: Bucket, tmp_path: Path, local_files: dict[str, bytes]) -> None:
    """It goes back uncounted; when the bucket can be written again the same command goes on."""
    site = site_of(bucket, tmp_path / "s3")
    site.run("--register")
    site.run("--step1", "--step2")
    bucket.proxy.refuse = ("PUT", "/sol/", 403, "AccessDenied")
    done = site.start("dbrtool.py", "-q", "--run")
    assert done.returncode == 4
    assert re.search(r"error: this node gives up: Cannot write s3://\S+\.sol\.gz \(S3 PutObject: AccessDenied\)", done.stderr)
    status = site.status()
    assert (status["sol_created"], status["quarantined_tracts"]) == (0, 0)
    bucket.proxy.refuse = None
    site.run("--run")
    assert bucket.files() == local_files


def test_while_s3_is_away_workers_keep_what_they_have_and_the_run_goes_on_afterwards(
    bucket: Bucket, tmp_path: Path, local_files: dict[str, bytes]
) -> None:
    """Every file is written once: nothing that was solved is solved again."""
    site = site_of(bucket, tmp_path / "s3", AWS_MAX_ATTEMPTS="2")
    site.run("--register")
    site.run("--step1", "--step2")
    log = bucket.proxy.log
    log.clear()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(site.start, "dbrtool.py", "--run")
        wait_for(lambda: any(method == "PUT" and "/lp/" in target for method, target in log), "the first LP file")
        bucket.proxy.refuse = ("", "", 503, "ServiceUnavailable")
        before = len(log)
        wait_for(lambda: len(log) > before + 5, "more attempts than those of a moment")
        bucket.proxy.refuse = None
        done = running.result()
    assert (done.returncode, bucket.files()) == (0, local_files), done.stderr
    assert Counter(name for name, _, _ in bucket.versions()) == Counter(list(local_files))
    warnings = [line for line in done.stderr.splitlines() if "S3 is away (ServiceUnavailable); waiting" in line]
    assert 1 <= len(warnings) <= 4, done.stderr


def test_a_node_that_has_waited_for_s3_in_vain_gives_up_and_blames_no_tract(bucket: Bucket, tmp_path: Path) -> None:
    site = site_of(bucket, tmp_path / "s3", AWS_MAX_ATTEMPTS="1")
    settings = site.folder / "config.ini"
    settings.write_text(settings.read_text().replace("[run]\n", "[run]\nstorage_wait = 1\n"))
    site.run("--register")
    site.run("--step1", "--step2")
    bucket.proxy.refuse = ("PUT", "/sol/", 503, "ServiceUnavailable")
    done = site.start("dbrtool.py", "--run")
    assert done.returncode == 4
    assert re.search(r"error: this node gives up: Cannot write s3://\S+\.sol\.gz \(S3 PutObject: ServiceUnavailable\)", done.stderr)
    status = site.status()
    assert (status["sol_created"], status["quarantined_tracts"]) == (0, 0)


def test_an_experiment_that_was_copied_works_after_a_rescan(
    bucket: Bucket, tmp_path: Path, moto_server: str, local_files: dict[str, bytes], state_zip: Path
) -> None:
    """The folder copied to another bucket, as `aws s3 sync` does it; another database, which has never heard of it."""
    s3 = client(moto_server)
    for name, data in local_files.items():
        s3.put_object(Bucket=bucket.name, Key=f"das/2010-re/r1/work/{name}", Body=data)
    site = site_of(bucket, tmp_path / "s3")
    said = site.run("--rescan")
    assert "entered in the ledger: 2" in said
    status = site.status()
    tracts = sum(name.endswith(".sol.gz") for name in local_files)
    assert (status["lp_created"], status["sol_created"], status["csv_completed"]) == (tracts, tracts, tracts)
    assert site.run("--run").startswith("nothing was left to do")

    lost = sorted(name for name in local_files if name.endswith(".sol.gz"))[0]
    s3.delete_object(Bucket=bucket.name, Key=f"das/2010-re/r1/work/{lost}")
    assert "solved -> lp" in site.run("--rescan")
    site.run("--run")
    assert bucket.files() == local_files


def test_step_6_on_s3_makes_what_it_makes_of_local_files(
    bucket: Bucket, tmp_path: Path, moto_server: str, local_files: dict[str, bytes]
) -> None:
    """By schedulers, then with samples and cells by hand; --rescan agrees with both."""
    people = {name: data for name, data in local_files.items() if "/synth_out_" in name}
    smallest = min(people, key=lambda name: len(people[name]))
    place = ("--stusab", STUSAB, "--county", smallest.split("/")[1][2:])
    s3 = client(moto_server)
    for name, data in local_files.items():
        path = tmp_path / "root" / "2010-re" / "r1" / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        s3.put_object(Bucket=bucket.name, Key=f"das/2010-re/r1/work/{name}", Body=data)
    here, away = new_site(tmp_path / "local", DAS_S3ROOT=str(tmp_path / "root")), site_of(bucket, tmp_path / "s3")
    work = tmp_path / "root" / "2010-re" / "r1" / "work"
    more = ("--cells", "--samples", "3", "--keep_samples")
    here.run("--rescan")
    here.run("--step6", *place, *more)
    away.run("--rescan")
    away.run("--step6", *place)
    away.run("--step6", *place, *more)
    made = {str(path.relative_to(work)): path.read_bytes() for path in work.rglob("*") if path.is_file()}
    assert bucket.files() == made
    for kind in ("people_certainty_", "certainty_cells_", "sample_blocks_", ".parquet"):
        assert any(kind in name for name in made), kind
    said = away.run("--rescan")
    assert "1 county's certainty" in said
    assert "the ledger and the files agree" in said
