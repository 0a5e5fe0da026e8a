"""Conversations of people with agents: each turn is a job."""
