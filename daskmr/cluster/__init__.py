"""Where tasks run: worker processes of this machine, an existing scheduler, a cluster for the run.

`session` gives the rest of the program one client for all of these, or none for an inline run;
`local` starts and watches the workers of this machine, with `forkserver` and `preload` to start them
fast; `connect` finds and checks a cluster that exists, `deploy` creates one from configuration,
`versions` compares its processes with this one, `probe` asks which files its workers see. What is
private of Dask stands in `dask_internals` alone. Nothing here knows what a task computes. Begin with
`session`.
"""
