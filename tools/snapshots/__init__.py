"""What a job's workspace held after each of its steps that may write, so that a fork begins where that step did."""

from tools.snapshots.history import History, Keeper, NoSnapshot, Snapshot, fork, history, keep_found

__all__ = ["History", "Keeper", "NoSnapshot", "Snapshot", "fork", "history", "keep_found"]
