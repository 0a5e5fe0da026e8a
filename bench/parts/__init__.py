"""What the benches are made of: servers, workers, figures."""
