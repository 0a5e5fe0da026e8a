"""Vectors without a model: hashed character n-grams. They find texts that share words and parts of words, and know
nothing of meaning; so they are labelled lexical wherever they show."""

import base64
import hashlib
import math
import struct
from typing import Any

DIMENSIONS = 256
MODEL = "scripted-lexical"


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Of length 1; the same text has the same vector, everywhere and always."""
    values = [0.0] * dimensions
    for word in text.lower().split():
        padded = f" {word} "
        for size in (3, 4, 5):
            for start in range(max(1, len(padded) - size + 1)):
                digest = hashlib.blake2b(padded[start : start + size].encode(), digest_size=8).digest()
                number = int.from_bytes(digest)
                values[number % dimensions] += 1.0 if number >> 63 else -1.0
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """The body of `/v1/embeddings`. Raises ValueError: the request is none."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
        raise ValueError("input is a text or a list of texts")
    dimensions = int(body.get("dimensions") or DIMENSIONS)
    if not 8 <= dimensions <= 4096:
        raise ValueError("dimensions are from 8 to 4096")
    packed = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        values: Any = vector(text, dimensions)
        if packed:
            values = base64.b64encode(struct.pack(f"<{dimensions}f", *values)).decode()
        data.append({"object": "embedding", "index": index, "embedding": values})
    tokens = sum(len(text.encode()) // 4 + 1 for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": MODEL, "data": data, "usage": usage}
