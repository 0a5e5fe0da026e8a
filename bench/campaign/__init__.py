"""The chaos campaign: a whole stack of its own, faults by a seeded schedule, a ledger outside, a verdict."""
