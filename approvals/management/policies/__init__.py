"""What `manage.py policy` does, an action a class."""

from approvals.management.policies.base import Action
from approvals.management.policies.changing import (
    Acknowledge,
    Backtest,
    Cover,
    Import,
    Propose,
    Publish,
    Rollback,
    Shadow,
)
from approvals.management.policies.reading import Diff, Export, List, Packs, Simulate, Test

ACTIONS: tuple[Action, ...] = (
    List(),
    Packs(),
    Export(),
    Import(),
    Cover(),
    Test(),
    Simulate(),
    Backtest(),
    Acknowledge(),
    Shadow(),
    Propose(),
    Publish(),
    Rollback(),
    Diff(),
)

__all__ = ["ACTIONS"]
