"""The pairs between the steps of a job: `cuts` chooses where to part them while they are written,
`plan` parts them, and `pairs` reads a share of them for `map`.
"""
