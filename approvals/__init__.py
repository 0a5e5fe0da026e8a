"""Policies and approvals: may this exact call run, and who says so."""
