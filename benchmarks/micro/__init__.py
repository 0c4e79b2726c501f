"""Single parts of the builder beside the best tools for the same job. Each module is a program of its own."""
