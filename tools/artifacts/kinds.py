"""What a file is, by its first bytes. Pure."""

SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/flac": ".flac",
    "application/pdf": ".pdf",
    "application/gzip": ".gz",
    "application/zip": ".zip",
}
PICTURES = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp"}
)  # that a page may show: no SVG, which is a program
_MARKS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"%PDF-", "application/pdf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"PK\x03\x04", "application/zip"),
)
_IN_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}


def kind_of(first: bytes) -> str:
    """One of SUFFIXES; "" where the bytes are none of them."""
    if first[:4] == b"RIFF":
        return _IN_RIFF.get(first[8:12], "")
    return next((kind for mark, kind in _MARKS if first.startswith(mark)), "")
