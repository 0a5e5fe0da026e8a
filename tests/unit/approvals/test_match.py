import pytest

from approvals.policy.match import matches, valid


@pytest.mark.parametrize(
    ("pattern", "tool", "covered"),
    [
        ("git.push", "git.push", True),
        ("git.*", "git.push", True),
        ("*", "mcp.server.tool", True),
        ("mcp.*", "mcp.server.tool", True),
        ("mcp.*.delete", "mcp.files.delete", True),
        ("git.*", "gitx.push", False),
        ("git.push", "git.pushed", False),
        ("git", "git.push", False),
        ("git.pus.", "git.push", False),
        ("Git.*", "git.push", False),
    ],
)
def test_a_pattern_covers_whole_names_and_a_star_any_part(pattern, tool, covered):
    assert matches([pattern], tool) is covered


@pytest.mark.parametrize("pattern", ["", "git.", ".push", "git push", "git.[a-z]", "GIT.*", "git.*\n"])
def test_what_is_no_pattern_of_tool_names_is_told_apart(pattern):
    assert not valid(pattern)


@pytest.mark.parametrize("pattern", ["*", "git.*", "files.read", "mcp.a-b.*", "*.push"])
def test_names_and_stars_are_patterns(pattern):
    assert valid(pattern)
