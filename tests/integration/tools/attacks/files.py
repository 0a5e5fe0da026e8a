"""Files outside the workspace: their content, their names, their attributes."""

import contextlib
import ctypes
import os
import struct
import subprocess

from tests.integration.tools.attacks.common import attack, attempt, escaped, libc, raw, read

WRITE = "no file outside is written"
READ = "no file outside is read"


@attack(WRITE)
def write_outside(f):
    out = f["outside"]
    attempt("new file", lambda: open(out + "/new", "w").close())
    attempt("append", lambda: open(out + "/secret", "a").close())
    attempt("truncate", lambda: os.truncate(out + "/secret", 0))
    attempt("folder", lambda: os.mkdir(out + "/folder"))
    attempt("unlink", lambda: os.unlink(out + "/secret"))
    attempt("rmdir", lambda: os.rmdir(out + "/empty"))
    attempt("fifo", lambda: os.mkfifo(out + "/fifo"))
    attempt("symlink", lambda: os.symlink("secret", out + "/planted"))
    attempt("nameless file", lambda: os.close(os.open(out, os.O_TMPFILE | os.O_WRONLY)))
    for place in ("/etc", "/usr", "/usr/bin", "/var", "/dev", "/"):
        attempt("file in " + place, lambda place=place: open(place + "/countersign-attack", "w").close())


@attack(WRITE)
def writing_by_links(f):
    inside, out = f["inside"], f["outside"]
    os.symlink(out + "/secret", inside + "/link")
    attempt("write by symlink", lambda: open(inside + "/link", "a").close())
    os.symlink(out, inside + "/folder-link")
    attempt("write by folder symlink", lambda: open(inside + "/folder-link/new", "w").close())
    open(inside + "/mine", "w").close()
    attempt("hard link out", lambda: os.link(inside + "/mine", out + "/hard"))
    attempt("climb", lambda: open(inside + "/../outside/new", "w").close())
    for magic in ("/proc/self/cwd/..", "/proc/thread-self/root" + out, "/proc/self/root" + out):
        attempt("write by " + magic, lambda magic=magic: open(magic + "/new", "w").close())


@attack(WRITE)
def renames(f):
    inside, out = f["inside"], f["outside"]
    open(inside + "/moved", "w").close()
    os.mkdir(inside + "/moved-folder")
    attempt("rename out", lambda: os.rename(inside + "/moved", out + "/moved"))
    attempt("rename a folder out", lambda: os.rename(inside + "/moved-folder", out + "/moved-folder"))
    attempt("rename in", lambda: os.rename(out + "/secret", inside + "/secret"))
    attempt("rename the workspace", lambda: os.rename(inside, inside + "-elsewhere"))
    exchanged, _ = raw(316, 276, -100, (inside + "/moved").encode(), -100, (out + "/secret").encode(), 2)
    if exchanged == 0:
        escaped("exchange")


@attack(WRITE)
def what_is_lent_for_reading(f):
    attempt("write", lambda: open(f["readable"] + "/new", "w").close())
    attempt("append", lambda: open(f["readable"] + "/given", "a").close())
    attempt("remove", lambda: os.unlink(f["readable"] + "/given"))
    attempt("move away", lambda: os.rename(f["readable"], f["inside"] + "/taken"))
    if f["mounts"]:
        attempt("chmod", lambda: os.chmod(f["readable"] + "/given", 0o777))
    if read(f["readable"] + "/given") != "given":
        escaped("what was given cannot be read")


@attack(READ)
def read_outside(f):
    out = f["outside"]
    attempt("secret", lambda: read(out + "/secret"))
    attempt("listing", lambda: os.listdir(out))
    attempt("of another job", lambda: read(f["others"]))
    attempt("program", lambda: subprocess.run([out + "/program"], check=False))
    attempt("shadow", lambda: read("/etc/shadow"))
    attempt("root's home", lambda: os.listdir("/root"))


@attack(READ)
def reading_by_links(f):
    inside, out = f["inside"], f["outside"]
    os.symlink(out + "/secret", inside + "/link")
    attempt("read by symlink", lambda: read(inside + "/link"))
    attempt("hard link in", lambda: os.link(out + "/secret", inside + "/hard"))
    attempt("climb", lambda: read(inside + "/../outside/secret"))
    with contextlib.suppress(OSError):
        handle = os.open(out + "/secret", os.O_PATH)
        attempt("by handle", lambda: read(f"/proc/self/fd/{handle}"))
        linked = libc.linkat(handle, b"", -100, (inside + "/by-handle").encode(), 0x1000)
        if linked == 0:
            escaped("link of a handle")
    with contextlib.suppress(OSError):
        folder = os.open(out, os.O_PATH | os.O_DIRECTORY)
        attempt("by a folder's handle", lambda: os.close(os.open("secret", os.O_RDONLY, dir_fd=folder)))
        attempt("listing by handle", lambda: os.listdir(folder))
        attempt("chdir by handle", lambda: os.chdir(folder) or os.listdir("."))


@attack(READ)
def proc_paths(f):
    for pid in ("self", "1", str(os.getppid()), str(f["worker"]), str(f["victim"])):
        for what in ("root", "cwd"):
            path = f"/proc/{pid}/{what}{f['outside']}/secret"
            attempt(f"/proc/{pid}/{what}", lambda path=path: read(path))


@attack("nothing outside is told of (names, sizes, times)")
def asking_about(f):
    out = f["outside"]
    attempt("size and times", lambda: os.stat(out + "/secret"))
    attempt("is it there", lambda: os.access(out + "/secret", os.F_OK) or os.stat("/none"))
    attempt("where a link leads", lambda: os.readlink(out + "/pointer"))
    attempt("attributes", lambda: os.getxattr(out + "/secret", "user.kept"))


@attack("nothing outside is told of (names, sizes, times)")
def watching(f):
    descriptor = libc.inotify_init1(0o4000)
    if descriptor < 0:
        return
    for place in (f["outside"], os.path.dirname(f["others"])):
        if libc.inotify_add_watch(descriptor, place.encode(), ctypes.c_uint32(0xFFF)) >= 0:
            escaped("watches", place)


@attack("no mode, owner, time or attribute outside is changed")
def attributes(f):
    path = f["target"]
    attempt("chmod", lambda: os.chmod(path, 0o777))
    attempt("utime", lambda: os.utime(path, (1, 1)))
    attempt("xattr", lambda: os.setxattr(path, "user.attack", b"x"))
    attempt("remove xattr", lambda: os.removexattr(path, "user.kept"))
    attempt("chown", lambda: os.chown(path, os.getuid(), os.getgid()))
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_PATH)
        attempt("chmod by handle", lambda: os.chmod(f"/proc/self/fd/{handle}", 0o777))
        attempt("chown by handle", lambda: os.chown("", os.getuid(), os.getgid(), dir_fd=handle))
        if raw(452, 452, handle, b"", 0o777, 0x1000)[0] == 0:
            escaped("fchmodat2 by handle")


@attack("no mode, owner, time or attribute outside is changed")
def flags_and_shares(f):
    """ioctl and memory maps on what is lent for reading."""
    descriptor = os.open(f["readable"] + "/given", os.O_RDONLY)
    flags = ctypes.create_string_buffer(struct.pack("l", 0x10), 8)  # immutable
    if libc.ioctl(descriptor, ctypes.c_ulong(0x40086602), flags) == 0:
        escaped("FS_IOC_SETFLAGS")
    attempt("fchmod", lambda: os.fchmod(descriptor, 0o777)) if f["mounts"] else None
    attempt("open again for writing", lambda: os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR))
