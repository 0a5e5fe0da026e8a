"""`file:///mnt/worm`: a second folder, such as a mount that only grows. A file a checkpoint, never overwritten."""

import os
from pathlib import Path

from audit.errors import NotDelivered
from audit.publishing.place import Parcel, file_name


class FilePlace:
    def __init__(self, folder: Path, every_s: float) -> None:
        self.name = f"file://{folder}"
        self.folder = folder
        self.every_s = every_s

    def deliver(self, parcel: Parcel) -> None:
        """Raises NotDelivered where another note has the name, OSError."""
        path = self.folder / file_name(parcel)
        data = parcel.note.encode()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        except FileExistsError:
            if path.read_bytes() == data:
                return
            raise NotDelivered(f"{path} holds something else.") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
