"""The durable step engine: claim in one transaction, act in none, settle in another."""
