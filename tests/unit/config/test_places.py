import socket
import stat
from pathlib import Path

import pytest

from config.devstack import places
from config.devstack.errors import StackError


def test_a_given_data_folder_wins(tmp_path: Path) -> None:
    assert places.data_folder(str(tmp_path / "mine")) == (tmp_path / "mine", "")


def test_data_is_kept_beside_the_code_where_the_servers_can_reach_it(shared_tmp: Path) -> None:
    assert places.data_folder(repository=shared_tmp) == (shared_tmp / ".data", "")


def test_root_in_a_closed_folder_keeps_data_elsewhere_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "server_user", lambda: "nobody")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    folder, note = places.data_folder(repository=closed / "clone")
    assert folder.parent == Path("/var/lib/countersign")
    assert str(folder) in note and "\n" not in note
    assert places.data_folder(repository=closed / "other")[0] != folder


def test_folders_above_the_data_keep_their_modes(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir(mode=0o755)
    above.chmod(0o755)
    before = stat.S_IMODE(above.stat().st_mode)
    if places.server_user() and not places.reachable_by_others(above / "data"):
        with pytest.raises(StackError, match="cannot reach"):
            places.make_data_folder(above / "data")
    else:
        places.make_data_folder(above / "data")
        assert stat.S_IMODE((above / "data").stat().st_mode) == 0o711
    assert stat.S_IMODE(above.stat().st_mode) == before


def test_a_data_folder_that_is_a_file_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "server_user", lambda: None)
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"cannot be written: .*; choose another --data-dir"):
        places.make_data_folder(tmp_path / "file" / "data")


def test_a_port_in_use_is_named_with_one_that_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=rf"Port {port} is in use; choose another: bin/up --port \d+\."):
            places.check_port_is_free(port)
    places.check_port_is_free(places.free_port())


def test_ports_are_given_once_and_no_outgoing_connection_takes_them_meanwhile() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    given = [places.free_port() for _ in range(50)]
    assert len(set(given)) == 50
    assert first <= 12000 or all(port < first for port in given)
