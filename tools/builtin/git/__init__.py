"""The git tools. Importing this package registers them."""

from tools.builtin.git.applying import Apply
from tools.builtin.git.branching import Branch, Checkout
from tools.builtin.git.cleaning import Clean
from tools.builtin.git.deleting import DeleteBranch
from tools.builtin.git.fetching import Fetch
from tools.builtin.git.forcing import ForcePush, RestoreBranch
from tools.builtin.git.merging import Merge
from tools.builtin.git.picking import CherryPick, Revert
from tools.builtin.git.pullrequests import ClosePullRequest, PullRequest
from tools.builtin.git.pushing import Push
from tools.builtin.git.reading import Diff, Log, Show, Status
from tools.builtin.git.rebasing import Rebase
from tools.builtin.git.resetting import Reset
from tools.builtin.git.staging import Add, Commit
from tools.builtin.git.stashing import Stash
from tools.builtin.git.tagging import Tag
from tools.builtin.git.tagpushing import PushTag
from tools.registry import register

__all__ = ["TOOLS"]

TOOLS = tuple(
    register(tool)
    for tool in (
        Status(),
        Diff(),
        Log(),
        Show(),
        Branch(),
        DeleteBranch(),
        Checkout(),
        Add(),
        Apply(),
        Commit(),
        Merge(),
        Rebase(),
        CherryPick(),
        Revert(),
        Reset(),
        Stash(),
        Clean(),
        Tag(),
        Fetch(),
        Push(),
        ForcePush(),
        RestoreBranch(),
        PushTag(),
        PullRequest(),
        ClosePullRequest(),
    )
)
