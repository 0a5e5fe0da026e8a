"""What `manage.py doctor` looks at: the machine, the services, the installation. Each look gives findings."""

from config.doctor.examine import examine
from config.doctor.finding import Finding, Level

__all__ = ["Finding", "Level", "examine"]
