"""The file by which the server hands commits to a workspace."""

import pytest

from tools.builtin.git.broker import handover


def test_what_a_stopped_git_leaves_beside_the_file_goes_with_it(tmp_path):
    with pytest.raises(RuntimeError, match="stopped"), handover(tmp_path) as path:
        path.with_name("in.bundle.lock").touch()
        raise RuntimeError("stopped")
    assert list(tmp_path.iterdir()) == []
