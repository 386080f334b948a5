"""The page's own files, read once when the server starts: nothing outside this list can be asked for."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "static"
PAGE = "index.html"
NOT_SERVED = {PAGE, "vendor/SOURCES.json"}
TYPES = {".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml", ".txt": "text/plain"}


@dataclass(frozen=True)
class StaticFile:
    """A file as it goes out. ``packed`` is None where compressing saves nothing."""

    mimetype: str
    body: bytes
    packed: bytes | None
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> "StaticFile":
        """Return the file of that name."""
        packed = gzip.compress(body, 9, mtime=0)
        mimetype = TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return cls(mimetype, body, packed if len(packed) < 0.9 * len(body) else None, hashlib.sha256(body).hexdigest()[:32])


@cache
def load_files() -> dict[str, StaticFile]:
    """Return every file under static/ that is served, by its path there."""
    paths = [path for path in sorted(FOLDER.rglob("*")) if path.is_file()]
    named = {str(path.relative_to(FOLDER)): path for path in paths}
    return {name: StaticFile.of(name, path.read_bytes()) for name, path in named.items() if name not in NOT_SERVED}


def load_page() -> str:
    """Return the page, in which ``{{root}}`` stands for the path that a proxy has put the dashboard under."""
    return (FOLDER / PAGE).read_text(encoding="utf-8")
