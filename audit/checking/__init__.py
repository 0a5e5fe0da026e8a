"""The parts of `audit.verify`: what each looks at stands in its module."""
