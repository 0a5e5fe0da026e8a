"""Agents and versions of prompts, tried on the same cases and compared."""
