"""Credentials: encrypted by KMS, put into shells of several kinds, used by the database's client; and never shown."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import boto3
import pytest

from dbrecon.ctools import kms
from dbrecon.ctools.aws import AwsError
from dbrecon.errors import InputError
from dbrecon.fleet import credentials
from dbrecon.settings import Config
from tests.console_world import AWS, Operator, assert_refused
from tests.paths import CHECKOUT
from tests.s3_servers import moto_server

__all__ = ["moto_server"]

PASSWORD = "p w'@/:%*?[x] \\0$HOME`id`\"~ä"
PLAIN = {
    "MYSQL_HOST": "db.example.org",
    "MYSQL_PORT": "3307",
    "MYSQL_DATABASE": "recon",
    "MYSQL_USER": "who",
    "MYSQL_PASSWORD": PASSWORD,
}


@pytest.fixture
def key(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A key of KMS, and the environment that leads there."""
    for name, value in (AWS | {"AWS_ENDPOINT_URL": moto_server}).items():
        monkeypatch.setenv(name, value)
    return str(boto3.client("kms").create_key()["KeyMetadata"]["Arn"])


@pytest.fixture
def operator(tmp_path: Path, moto_server: str, key: str) -> Operator:
    """One whose credentials are in an encrypted file alone."""
    (tmp_path / "TEST.json").write_text(json.dumps(PLAIN))
    (tmp_path / "TEST.json").chmod(0o600)
    settings = f"[secrets]\nfile = {tmp_path}/encrypted.json.*\nkms_key = {key}\n"
    made = Operator(tmp_path / "home", settings, AWS | {"AWS_ENDPOINT_URL": moto_server, "DAS_S3ROOT": str(tmp_path)})
    credentials.encrypt_file(str(tmp_path / "TEST.json"), Config.load(made.environment()["DBRECON_CONFIG"]))
    return made


@pytest.mark.parametrize("size", [1, kms.KMS_LIMIT, kms.KMS_LIMIT + 1, 100_000])
def test_what_is_encrypted_comes_back_whatever_its_size(key: str, size: int) -> None:
    text = os.urandom(size)
    content = kms.encrypt(text, key)
    assert kms.decrypt(content, "file") == text
    assert ("data_key" in json.loads(content)) == (size > kms.KMS_LIMIT)


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_damaged_file_is_refused_by_name(key: str, size: int) -> None:
    answer = json.loads(kms.encrypt(os.urandom(size), key))
    sealed = bytearray(base64.b64decode(answer["ciphertext"]))
    sealed[-1] ^= 1
    answer["ciphertext"] = base64.b64encode(sealed).decode()
    with pytest.raises(InputError, match=r"c\.json was damaged"):
        kms.decrypt(json.dumps(answer), "c.json")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "other"}', '{"format": "dbrecon-kms-1", "ciphertext": "%%"}'])
def test_a_file_of_another_kind_is_refused_by_name(key: str, content: str) -> None:
    with pytest.raises(InputError, match=r"c\.json is no encrypted file"):
        kms.decrypt(content, "c.json")


def test_a_key_that_is_none_is_a_sentence(key: str) -> None:
    with pytest.raises(AwsError, match=r"KMS refuses Encrypt .*alias/none"):
        kms.encrypt(b"x", "alias/none")


def test_the_encrypted_file_holds_nothing_in_the_clear(operator: Operator, tmp_path: Path) -> None:
    content = (tmp_path / "encrypted.json.TEST").read_text()
    assert [value for value in (PASSWORD, "db.example.org", "MYSQL") if value in content] == []


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "ksh", "zsh"])
@pytest.mark.parametrize("form", ["$({})", 'eval "$({})"'])
def test_env_puts_every_value_into_a_shell_as_it_is(tmp_path: Path, shell: str, form: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    (tmp_path / "told").write_text(credentials.shell_text(PLAIN))
    (tmp_path / "MYSQL_PASSWORD=x").touch()  # what a pattern could match
    script = f"{form.format('cat told')}; for name in {' '.join(PLAIN)}; do printenv $name; done"
    shown = subprocess.run([program, "-c", script], env={"PATH": os.environ["PATH"]}, cwd=tmp_path, capture_output=True, check=True)
    assert shown.stdout.decode().splitlines() == list(PLAIN.values())


def test_env_prints_what_is_in_the_encrypted_file(operator: Operator) -> None:
    assert operator.done("--env") == credentials.shell_text(PLAIN)


def test_on_a_terminal_secrets_are_masked_and_the_reason_told(operator: Operator) -> None:
    code, shown = operator.on_terminal("--env")
    assert code == 0
    assert "export MYSQL_PASSWORD=********" in shown
    assert "export MYSQL_HOST=db.example.org" in shown
    assert "masked on a terminal" in shown
    assert PASSWORD not in shown


def test_the_environment_comes_before_the_encrypted_file(operator: Operator) -> None:
    operator.env |= {"MYSQL_HOST": "other", "MYSQL_DATABASE": "d", "MYSQL_USER": "u", "MYSQL_PASSWORD": "x"}
    assert "MYSQL_HOST=other" in operator.here("--env").stdout


def test_two_encrypted_files_are_refused_until_one_is_named(operator: Operator, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "encrypted.json.TEST", tmp_path / "encrypted.json.PROD")
    assert_refused(operator.here("--env"), 2, "encrypted.json.PROD", "encrypted.json.TEST", "[secrets] file")


def test_without_any_credentials_env_says_what_to_do(tmp_path: Path) -> None:
    operator = Operator(tmp_path, f"[secrets]\nfile = {tmp_path}/none.*\n", {"DAS_S3ROOT": str(tmp_path)})
    assert_refused(operator.here("--env"), 2, "MYSQL_HOST", "--encrypt_config")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"MYSQL_PASSWORD": "geheim", ', "is not JSON (line 1)"),
        ('["geheim"]', "must be a JSON object"),
        ('{"MYSQL_HOST": "geheim"}', "lacks MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD"),
        ('{"a b": "geheim"}', "'a b' cannot be the name"),
        ('{"A": {"B": "geheim"}}', "value of A must be a text"),
        ('{"A": "geheim\\n"}', "value of A has a line end"),
    ],
)
def test_a_wrong_plain_file_is_refused_without_quoting_it(operator: Operator, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "wrong.json").write_text(text)
    result = operator.here("--encrypt_config", str(tmp_path / "wrong.json"))
    assert_refused(result, 3, "wrong.json", said)
    assert "geheim" not in result.stderr


def test_without_a_kms_key_it_says_where_to_name_one(operator: Operator, tmp_path: Path) -> None:
    operator.settings = f"[secrets]\nfile = {tmp_path}/encrypted.json.*\n"
    assert_refused(operator.here("--encrypt_config", str(tmp_path / "TEST.json")), 2, "[secrets] kms_key")


@pytest.mark.mariadb
def test_the_ledger_and_the_client_use_the_encrypted_credentials(
    operator: Operator, tmp_path: Path, mariadb_env: dict[str, str]
) -> None:
    (tmp_path / "TEST.json").write_text(json.dumps(mariadb_env))
    operator.done("--encrypt_config", str(tmp_path / "TEST.json"))
    assert "r1 is registered in MySQL" in operator.done("--register", "r1")
    query = "SELECT CONCAT(CURRENT_USER(), ' ', DATABASE());\\! tr '\\0' ' ' </proc/$PPID/cmdline\n"
    shown = operator.done("--mysql", stdin=query)
    assert f"{mariadb_env['MYSQL_USER']}@127.0.0.1 {mariadb_env['MYSQL_DATABASE']}" in shown
    assert "--defaults-extra-file=/dev/fd/" in shown  # the client's own command line
    assert mariadb_env["MYSQL_PASSWORD"] not in shown


def test_the_client_of_sqlite_is_named(tmp_path: Path) -> None:
    operator = Operator(tmp_path, f"[secrets]\nfile = {tmp_path}/none.*\n", {"DAS_S3ROOT": str(tmp_path)})
    assert_refused(operator.here("--mysql"), 2, f"sqlite3 {tmp_path}/2010-re/dbrecon.sqlite3")


def test_no_encrypted_file_of_a_test_is_left_in_the_checkout() -> None:
    assert list((CHECKOUT / "config").glob("*_encrypted.json.TEST")) == []


def test_a_plain_value_is_not_made_unreadable() -> None:
    assert credentials.shell_text({"A": "b-c.d:1"}) == "eval\nexport A=b-c.d:1\n"
