"""What may go wrong while the development stack starts.

StackError            one clear line for a person; the command ends with exit code 2
├── PostgresError     (config.devstack.postgres)
└── RedisError        (config.devstack.redis)
"""


class StackError(Exception):
    """The message is one line that says what is wrong and what to do."""
