"""Where a build context comes from."""
