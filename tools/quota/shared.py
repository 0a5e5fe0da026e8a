"""Can this file system share blocks between files, so that a copy of a workspace costs nothing until it is changed?"""

import errno
import fcntl
import tempfile
from pathlib import Path

_FICLONE = 0x40049409  # ioctl_ficlone(2)


def shares_blocks(folder: Path) -> bool:
    """Tried with two files in the folder. `workspaces.copy` asks for it wherever it can be had.

    Raises:
        OSError: nothing can be written there.
    """
    with tempfile.TemporaryFile(dir=folder) as source, tempfile.TemporaryFile(dir=folder) as copy:
        source.write(b"x" * 4096)
        source.flush()
        try:
            fcntl.ioctl(copy, _FICLONE, source.fileno())
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM):
                return False
            raise
        return True
