"""A folder that only this user can read and write: for locks, sockets and partial files that others must not touch or plant."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dbrecon.errors import StorageError, UsageError

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def run_folder() -> str:
    """Return where this user's processes on a node find each other: ``~/.dbrecon``.

    Not $XDG_RUNTIME_DIR, nor the temporary folder: cron's scheduler has neither variable where one from a terminal has both, the
    former goes when the user logs out while a scheduler works on, and both must meet at one file.

    Raises UsageError where $HOME is set to no absolute path: empty, it would stand for the root of all.
    """
    home = os.environ.get("HOME")
    if home is not None and not os.path.isabs(home):
        raise UsageError(f"HOME is {home!r}, and locks belong in your home folder: set HOME to its whole path, or unset it.")
    return os.path.join(os.path.expanduser("~"), ".dbrecon")


@contextmanager
def private_folder(path: str, make: bool = True, variable: str = "HOME") -> Iterator[int]:
    """Yield a descriptor of the folder ``path``, which is made (mode 700) where it is not there, unless ``make`` is false.

    ``variable`` is the environment variable that leads there, for the remedy.
    Raises StorageError where it is a link, another user's, or open to others; FileNotFoundError where it is not there and not made.
    """
    if make:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(path, FOLDER_MODE)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be made ({error.strerror}): set {variable} to a folder that you may write to."
            ) from error
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = "it is a link, or no folder" if os.path.islink(path) else error.strerror
        raise StorageError(f"{path} cannot be used as a private folder ({reason}); move away what is there.") from error
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.getuid():
            owner = f"another user (uid {found.st_uid})"
            raise StorageError(f"{path} belongs to {owner}; move it away, or set {variable} to a folder of your own.")
        if stat.S_IMODE(found.st_mode) & ~FOLDER_MODE:
            raise StorageError(f"{path} is open to other users; see that nothing of theirs is in it, then: chmod 700 {path}")
        yield descriptor
    finally:
        os.close(descriptor)


def open_private_file(path: str, make: bool = True) -> int:
    """Return a descriptor, for reading and writing, of the file ``path`` in a private folder; made (mode 600) unless ``make`` is
    false.

    Raises StorageError as :func:`private_folder`, and where the file is a link, another user's or no regular file; OSError where
    the system refuses it.
    """
    folder, name = os.path.split(path)
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if make else 0)
    with private_folder(folder, make) as parent:
        descriptor = os.open(name, flags, FILE_MODE, dir_fd=parent)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_nlink > 1:
        os.close(descriptor)
        raise StorageError(f"{path} is no regular file of this user's alone; move it away.")
    return descriptor
