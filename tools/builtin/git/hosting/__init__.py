"""Forges: where repositories are, and pull requests are asked for. One adapter for each kind of API."""
