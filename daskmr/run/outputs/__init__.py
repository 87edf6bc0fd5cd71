"""The outputs of a run: what they may replace, and directories that workers write."""
