"""The development stack: embedded PostgreSQL and Redis, and the processes of `bin/up` and `bin/test`."""
