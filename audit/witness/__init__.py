"""Witnesses: who they are (policy), being one (keeper, server), and asking them (collect)."""
