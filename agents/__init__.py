"""Jobs, steps, the engine that runs them, the model loop, pages and API."""
