"""YAML as configuration: data with the place of every key and value, and nothing of YAML that surprises."""
