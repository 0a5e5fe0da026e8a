"""Versioned prompts: what models are asked, tested on answers that were recorded."""
