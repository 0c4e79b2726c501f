"""What a build tells, made visible: log formats, live lines on a terminal, the closing line, errors."""
