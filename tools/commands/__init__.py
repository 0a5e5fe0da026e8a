"""What command lines mean: positive specifications of programs, and readings of commands against them.

This only decides whether people are asked. What a command can do is decided by the sandbox, whatever it is called.
"""

from tools.commands.notes import Reading, facts
from tools.commands.reading import opaque, read
from tools.commands.specs import BadSpecification, known, programs

__all__ = ["BadSpecification", "Reading", "facts", "known", "opaque", "programs", "read"]
