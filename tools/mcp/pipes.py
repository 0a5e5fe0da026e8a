"""MCP over two pipes: a JSON-RPC message a line (specification 2025-11-25, "stdio"). The other side is untrusted."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import mcp_types
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage

MESSAGE_MAX_BYTES = 8 * 1024**2
_READ_BYTES = 64 * 1024


class TooLong(Exception):
    """A message beyond MESSAGE_MAX_BYTES."""


@asynccontextmanager
async def pipe_streams(read_fd: int, write_fd: int, broke: Callable[[str], None]) -> AsyncIterator[TransportStreams]:
    """The streams of a session over these descriptors, which do not block and stay the caller's. broke: is told why they
    end, where that is for what the other side wrote."""
    to_session, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with to_session:
            try:
                async for line in _lines(read_fd):
                    await to_session.send(_message(line))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            except TooLong as error:
                broke(str(error))
                await to_session.send(error)

    async def write() -> None:
        try:
            async with from_session:
                async for given in from_session:
                    text = given.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await _write(write_fd, text.encode() + b"\n")
        except OSError:
            to_session.close()  # the session sees that its server is gone

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(write)
        try:
            yield from_server, to_server
        finally:
            tasks.cancel_scope.cancel()
            for stream in (from_server, to_server, to_session, from_session):
                stream.close()


def _message(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


async def _lines(fd: int) -> AsyncIterator[bytes]:
    pending = bytearray()
    while chunk := await _read(fd):
        pending += chunk
        if b"\n" in chunk:
            *lines, rest = bytes(pending).split(b"\n")
            pending = bytearray(rest)
            for line in lines:
                if line.strip():
                    yield line
        if len(pending) > MESSAGE_MAX_BYTES:
            raise TooLong(f"A message is longer than {MESSAGE_MAX_BYTES} bytes.")


async def _read(fd: int) -> bytes:
    while True:
        await anyio.wait_readable(fd)
        try:
            return os.read(fd, _READ_BYTES)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno in (errno.EBADF, errno.EIO):
                return b""
            raise


async def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await anyio.wait_writable(fd)
