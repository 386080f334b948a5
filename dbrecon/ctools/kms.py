"""Secrets in a file, encrypted by AWS KMS.

A file is JSON: ``{"format": "dbrecon-kms-1", "ciphertext": ...}``, in base64. KMS itself encrypts 4,096 bytes at the most. A longer
text is encrypted with AES-256-GCM by a data key that KMS makes for it, and which stands in the file encrypted (``"data_key"``,
``"nonce"``): the envelope encryption of AWS's developer guide. The encryption context, which must be the same for decrypting, is
``application: dbrecon``.
"""

from __future__ import annotations

import base64
import binascii
import json
import os

from dbrecon.ctools.aws import AwsError, client, explained
from dbrecon.ctools.extras import extra
from dbrecon.errors import InputError, Subject

with extra("aws"):
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = "dbrecon-kms-1"
CONTEXT = {"application": "dbrecon"}
KMS_LIMIT = 4096
NONCE_BYTES = 12
_DAMAGED = {"InvalidCiphertextException", "IncorrectKeyException"}


def encrypt(text: bytes, key: str) -> str:
    """Return the content of an encrypted file; ``key`` is a KMS key's id, ARN or alias/NAME. Raises AwsError."""
    kms = client("kms")
    with explained("kms"):
        if len(text) <= KMS_LIMIT:
            answer = kms.encrypt(KeyId=key, Plaintext=text, EncryptionContext=CONTEXT)
            parts = {"ciphertext": answer["CiphertextBlob"]}
        else:
            answer = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)
            nonce = os.urandom(NONCE_BYTES)
            sealed = AESGCM(answer["Plaintext"]).encrypt(nonce, text, FORMAT.encode())
            parts = {"data_key": answer["CiphertextBlob"], "nonce": nonce, "ciphertext": sealed}
    written = {"format": FORMAT, "key": answer["KeyId"]} | {name: base64.b64encode(part).decode() for name, part in parts.items()}
    return json.dumps(written, indent=2) + "\n"


def decrypt(content: str, path: str) -> bytes:
    """Return the text of an encrypted file's ``content``; ``path`` is its name for errors. Raises InputError, AwsError."""
    parts = _parts(content, path)
    blob = parts.get("data_key", parts["ciphertext"])
    kms = client("kms")
    try:
        with explained("kms"):
            text: bytes = kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"]
    except AwsError as error:
        if error.code in _DAMAGED:
            raise InputError(f"{path} was damaged, or encrypted elsewhere", about=Subject.ENCRYPTED_FILE) from error
        raise
    if "data_key" not in parts:
        return text
    try:
        return AESGCM(text).decrypt(parts["nonce"], parts["ciphertext"], FORMAT.encode())
    except (InvalidTag, KeyError, ValueError) as error:
        raise InputError(f"{path} was damaged", about=Subject.ENCRYPTED_FILE) from error


def _parts(content: str, path: str) -> dict[str, bytes]:
    try:
        written = json.loads(content)
        if written["format"] != FORMAT:
            raise ValueError
        found = {
            name: base64.b64decode(written[name], validate=True) for name in ("data_key", "nonce", "ciphertext") if name in written
        }
        return found | {"ciphertext": found["ciphertext"]}
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise InputError(f"{path} is no encrypted file (format {FORMAT})", about=Subject.ENCRYPTED_FILE) from error
