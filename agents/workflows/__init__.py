"""Workflows: definitions in YAML or JSON, read with their positions, checked whole, versioned, compiled into jobs.

parse: text -> data with the line and column of everything; schema, check: every problem, each at its place; versions:
draft, publish, retire; compile: a version and inputs -> a job's steps; diff: what changed between two versions; library:
the workflows that come with the server.
"""
