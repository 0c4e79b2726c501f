"""Native parts: walking, change detection, untar, tar writing, isolation. See the ``.pyi`` beside each module."""
