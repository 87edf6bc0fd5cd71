"""Run tasks on local worker processes, on an existing scheduler, or on a cluster created for the run.

`session` gives the rest of the program one client for all of these, or none for an inline run.
`local` starts and watches the workers on this machine; `forkserver` and `preload` make them start
fast. `connect` connects to an existing cluster and checks it, `deploy` creates one from configuration,
`versions` compares its versions with those of this process, and `probe` checks which files its
workers see. Private names of Dask are used only in `dask_internals`. Nothing here knows what a task
computes. Begin with `session`.
"""
