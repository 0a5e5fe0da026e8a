"""Records for other systems: OCSF and CEF for SIEMs, and JSON lines that can be checked again."""
