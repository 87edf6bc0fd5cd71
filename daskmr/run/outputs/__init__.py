"""The outputs of a run: their commit and side-cars, and directories that workers write."""
