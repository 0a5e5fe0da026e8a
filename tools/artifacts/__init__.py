"""Files of a job that are kept after it: content-addressed, bounded, purged by age and size."""
