"""The provenance of an output, in ``OUTPUT.meta.json``: describe, read and compare it, repeat its run.

It is sufficient to tell two runs apart, and to repeat one. It contains no credentials: the recorded
settings have none, and credentials in URLs are masked.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from daskmr import clock
from daskmr._version import __version__
from daskmr.data.dimensions.dates import has_form
from daskmr.data.inputs import Inputs
from daskmr.data.layout import is_layout_file
from daskmr.data.listing import InputFile, Listing
from daskmr.data.output_directory.base import Output, OutputDirectory
from daskmr.data.sources.given import Recorded, parse_sources, source_name
from daskmr.errors import InputError
from daskmr.job.job import Job, function_names
from daskmr.job.loading import Code
from daskmr.job.params.calls import syntax_tree
from daskmr.job.params.given import Recorded as RecordedParam
from daskmr.job.tracebacks import short_repr
from daskmr.run.outputs.differences import KEYED_RECORDS, differences, parts_in, scripts_of
from daskmr.run.outputs.side_cars import FORMAT, META_SUFFIX, NamedOutput, side_car_paths
from daskmr.tasks.tally import by_group
from daskmr.text import HIDDEN, masked, shell_word

if TYPE_CHECKING:
    from daskmr.history import StepFigures
    from daskmr.run.execution import Outcome
    from daskmr.run.request import Request
    from daskmr.run.stopwatch import Stopwatch

__all__ = [
    "describe_outcome",
    "describe_run",
    "provenance_of",
    "read_meta",
    "recorded_files",
    "recorded_params",
    "recorded_path",
    "repeat",
    "script_in",
]

_NEEDED = {  # keys that `repeat`, `differences` and `replay` read
    "script": ("path", "sha256", "modules"),
    "filter": ("version", "dimensions"),
    "input": ("data_dir", "files", "bytes", "sha256"),
    "output": ("path",),
    "options": (),
}
_FILES = 1000  # input files up to which each is listed
_NAMED = 1000  # skipped files listed per reason
_PATHS = {"work_dir", "schema", "tls_ca_file", "tls_cert", "tls_key"}
_NOT_IN_META = {"bad_reasons", "waited"}  # counts that are recorded elsewhere, or not at all

_CHOICE = {"only": "only", "limit_files": "limit_files", "share": "sample", "seed": "seed"}
_CHOICE_OPTIONS = {*_CHOICE.values(), "sample_by"}
_LAYOUTS = {"layout", "schema"}  # either gives the layout
_PLACES = {"scheduler", "cluster", "inline"}  # mutually exclusive
_NOT_AGAIN = {"delete_data"}  # the files that exist now may be different ones


def describe_run(
    request: Request, inputs: Inputs, target: Output | None, earlier: Mapping[str, Any] | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Describe the script, settings and input of a run before its files can change.

    - `earlier`: the content of ``OUTPUT.meta.json`` of a run that is repeated.
    Returns the description, empty if it is neither written nor compared, and notes on the script and
    on the differences from the earlier run.
    """
    notes = request.job.notes
    is_written = request.config.meta and target is not None and target.has_companions
    if not is_written and earlier is None:
        return {}, notes
    provenance = provenance_of(request, inputs)
    return provenance, notes if earlier is None else notes + differences(earlier, provenance)


def provenance_of(request: Request, inputs: Inputs, salt: str | None = None) -> dict[str, Any]:
    """Describe the script, settings and input of a run.

    - `salt`: that of the digest of variables in the description to compare with.
    """
    files, schema, sources = inputs.listing.files, inputs.listing.schema, request.sources
    given, bucket = request.schema.given, request.config.bucket
    return {
        "script": _describe_script(request.job),
        **_describe_params(request.job),
        "files": _describe_sent(request.job),
        "py_files": list(request.job.py_files),
        "pass_env": list(request.pass_env),
        "env": _digest_env(request.pass_env, salt),
        "uses_date": given.refers_to_date,
        "imports": _imported(request.job),
        **_describe_steps(request.job),
        "filter": {"path": _absolute(request.filter_path), **schema.as_filter()},
        "layout": list(schema.layout.field_names),
        "template": schema.layout.spec,  # none for a JSON file
        "where": list(given.where),
        "date": request.date.isoformat(),
        "unfilled": _describe_unfilled(request),
        "records": request.records.as_dict(),
        "options": _describe_options(request),
        "versions": _versions(),
        "input": {
            "data_dir": sources.recorded(),
            "sources": [masked(source_name(value)) for value in sources.given],
            **({"root": inputs.listing.root} if sources.local and not sources.folder else {}),
            "bucket": bucket and masked(bucket),
            "files": len(files),
            "bytes": sum(file.size for file in files),
            **_describe_files(files, inputs.root),
        },
        "sample": request.choice.as_dict(),
    }


def _describe_script(job: Job) -> dict[str, Any]:
    own = os.path.basename(job.path) if job.path else None
    texts = {name: text.encode("utf-8", "surrogatepass") for name, text in job.files.items()}
    contents = sorted({**texts, **job.data}.items())
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents}
    return {
        "path": job.path if job.code is None else None,
        **({} if job.code is None else {"text": job.code}),
        "sha256": digests.pop(own) if own in digests else job.digest,
        "modules": digests,
    }


def _figures_of(step: StepFigures) -> dict[str, Any]:
    kept = os.path.realpath(step.kept) if step.kept else ""
    return step._replace(kept=kept)._asdict()


def _describe_sent(job: Job) -> dict[str, Any]:
    """Describe the files that are sent with a script, by name."""
    shipped = job.shipped
    return {
        name: {
            "path": sent.path,
            "size": sent.size,
            "sha256": sent.digest,
            **({} if sent.files is None else {"files": sent.files}),
            "given": name in shipped.given,  # rather than listed by the script
        }
        for name, sent in shipped.sent.items()
    }


def _describe_params(job: Job) -> dict[str, Any]:
    """Describe the parameters of a script; defaults that plain data cannot stand for, as text."""
    params = job.params
    others = {
        name: re.sub(r" at 0x[0-9a-f]+", "", short_repr(declared.value))
        for name, declared in job.declared_params.items()
        if name not in params
    }
    return {"params": dict(params), "defaults": others}


def _describe_unfilled(request: Request) -> dict[str, Any]:
    """Describe the options that have a date filled in as they were given, to repeat them for another date."""
    described: dict[str, Any] = {}
    given = request.unfilled
    if "output" in given:
        described["output"] = recorded_path(os.fspath(given["output"]))
    if "data_dir" in given:
        sources = parse_sources(given["data_dir"])
        described["data_dir"] = sources.recorded()
        described["sources"] = [masked(source_name(value)) for value in sources.given]
    if "params" in given:
        texts = {name: text for name, text in given["params"].items() if isinstance(text, str)}
        described["params"] = {name: text for name, text in texts.items() if has_form(text)}
    if (filter := request.schema.given.unfilled) is not None:
        described["filter"] = json.loads(json.dumps(filter, default=str))
    return described


def _describe_steps(job: Job) -> dict[str, Any]:
    """Describe the steps of a job that has several, each with its script if that is another one."""
    steps: list[dict[str, Any]] = []
    for step in job.steps:
        steps.append({"name": step.step_name, "functions": [*function_names(step)]})
        if step is not job and step in job.scripts:
            steps[-1] |= {"script": _describe_script(step), **_describe_params(step)}
            steps[-1]["files"] = _describe_sent(step)
    return {"steps": steps} if len(steps) > 1 else {}


def _describe_options(request: Request) -> dict[str, Any]:
    options = request.config.recorded()
    if request.sources.url is not None:  # recorded among the sources
        options["bucket"] = None
    share = options["max_bad_records"]
    if type(share) is float:
        options["max_bad_records"] = f"{100 * share:.12g}%"
    for name in _PATHS:
        options[name] = _absolute(options[name])
    if (layout := options["layout"]) is not None and is_layout_file(layout):
        options["layout"] = _absolute(layout)
    flags = {name: getattr(request, name) for name in ("inline", "profile", "delete_data")}
    return flags | {n: masked(v) if isinstance(v, str) else v for n, v in options.items()}


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _versions() -> dict[str, str]:
    system = os.uname()
    return {
        "daskmr": __version__,
        "python": platform.python_version(),
        "dask": _version_of("dask"),
        "distributed": _version_of("distributed"),
        "platform": f"{sys.platform} {system.release} {system.machine}",
    }


def _imported(job: Job) -> dict[str, str | None]:
    """Return the versions of the distributions that a job imports, as far as they are known."""
    own = {name.partition("/")[0].removesuffix(".py") for name in job.files}
    names: set[str] = set()
    for step in job.scripts:
        for name, text in step.files.items():
            if name.endswith(".py"):
                names |= _imports_in(text)
    found: dict[str, str | None] = {}
    for name in sorted(names - own - sys.stdlib_module_names - {"", "daskmr"}):
        try:
            found[name] = importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            version = getattr(sys.modules.get(name), "__version__", None)
            found[name] = None if version is None else str(version)
    return found


def _imports_in(text: str) -> set[str]:
    try:
        nodes = list(ast.walk(syntax_tree(text)))
    except (SyntaxError, ValueError):
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [
        node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level
    ]
    return {name.partition(".")[0] for name in names}


def _digest_env(names: Sequence[str], salt: str | None) -> dict[str, str] | None:
    """Return a salted digest of the values of variables, from which it would take long to guess them."""
    if not names:
        return None
    salt = salt or os.urandom(16).hex()
    text = json.dumps([[name, os.environ.get(name)] for name in names])
    digest = hashlib.scrypt(text.encode(), salt=bytes.fromhex(salt), n=1 << 14, r=8, p=1)
    return {"salt": salt, "scrypt": digest.hex()}


def _version_of(name: str) -> str:
    module = sys.modules.get(name)  # looking up its metadata takes longer
    return module.__version__ if module else importlib.metadata.version(name)


def _describe_files(files: tuple[InputFile, ...], root: str) -> dict[str, Any]:
    """Describe the files by one digest and, unless there are many, list each with its identity."""
    digest, state = hashlib.sha256(), hashlib.sha256()
    for file in files:
        times = f"{file.path}\t{file.size}\t{file.etag}\t{file.mtime}\t{file.mtime_ns}\n"
        state.update(times.encode("utf-8", "surrogatepass"))
        identity = f"{file.path}\t{file.size}\t{file.etag or ''}\n"
        digest.update(identity.encode("utf-8", "surrogatepass"))
    described: dict[str, Any] = {"sha256": digest.hexdigest(), "state": state.hexdigest()}
    if len(files) <= _FILES:
        described["list"] = [_describe_file(file, root) for file in files]
    return described


def _describe_file(file: InputFile, root: str) -> dict[str, Any]:
    described: dict[str, Any] = {"path": file.path, "size": file.size}
    if file.etag is not None:
        described["etag"] = file.etag
    if file.mtime is not None:
        described["mtime"] = file.mtime
    elif not file.is_remote:
        try:
            described["mtime"] = os.stat(os.path.join(root, file.path)).st_mtime
        except OSError:  # the task that maps the file reports it
            described["mtime"] = None
    return described


def describe_outcome(
    outcome: Outcome,
    listing: Listing,
    target: Output,
    named: Iterable[NamedOutput],
    output_format: str,
    stopwatch: Stopwatch,
    notes: tuple[str, ...],
) -> dict[str, Any]:
    """Describe what a run read, counted, skipped and wrote, and how long it took."""
    tally, now = outcome.tally, clock.now()
    counts = tally.counts._asdict()
    return {
        "counts": {
            **{name: figure for name, figure in counts.items() if name not in _NOT_IN_META},
            "keys": outcome.keys,
            "lines": outcome.lines,
            **({"steps": [_figures_of(step) for step in outcome.steps]} if outcome.steps else {}),
        },
        "counters": by_group(tally.counters),
        "bad_records": {
            "count": tally.bad_records,
            "reasons": dict(tally.bad_reasons),
            "files": dict(sorted(tally.bad_files.items())[:_NAMED]),
            "files_count": len(tally.bad_files),
            "saved": len(tally.saved),
        },
        "left_out": {
            "skipped": {
                "count": listing.skipped_count,
                "paths": list(listing.skipped),
                "reasons": dict(zip(listing.skipped, listing.reasons, strict=True)),
            },
            **{
                name: {"count": len(files), "reasons": dict(files[:_NAMED])}
                for name, files in (
                    ("corrupt", tally.corrupt),
                    ("poisoned", tally.poisoned),
                    ("missing", tally.missing),
                )
            },
        },
        "notes": list(notes),
        "times": {
            "started": _timestamp(stopwatch.started),
            "ended": _timestamp(now),
            "seconds": {**stopwatch.seconds, "total": now - stopwatch.started},
        },
        "output": _describe_output(outcome, target, named, output_format),
    }


def _describe_output(
    outcome: Outcome, target: Output, named: Iterable[NamedOutput], output_format: str
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "path": recorded_path(target.name),
        "format": output_format,
        "lines": outcome.lines,
        "bytes": target.bytes,
        "sha256": target.sha256,
    }
    if isinstance(target, OutputDirectory):
        described["parts"] = [asdict(part) for part in target.parts]
    if others := {each.name: _describe_named(each) for each in named}:
        described["named"] = others
    return described


def _describe_named(named: NamedOutput) -> dict[str, Any]:
    """Describe an output of ``context.write_to`` as the main one is."""
    return {
        "path": recorded_path(named.output or ""),
        "lines": named.lines,
        "bytes": named.bytes,
        "sha256": named.sha256,
        **({"parts": [asdict(part) for part in named.parts]} if named.parts else {}),
    }


def recorded_path(output: str) -> str:
    """Return an absolute path, which ends in "/" if it is that of a directory."""
    if "://" in output:
        return output
    return os.path.abspath(output) + "/" * output.endswith("/")


def _timestamp(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601, in UTC.

    >>> _timestamp(0.0)
    '1970-01-01T00:00:00.000+00:00'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


# --- files ----------------------------------------------------------------------------------------


def read_meta(path: str) -> dict[str, Any]:
    """Read a provenance file; `path` may also be that of its output.

    Raises `InputError` if it cannot be read, or has another format or version.
    """
    beside_output = side_car_paths(path)[1]
    path = beside_output if os.path.isfile(beside_output) else path
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        content = None
    mark = content.get("daskmr") if isinstance(content, dict) else None
    if not isinstance(mark, dict) or "meta" not in mark:
        raise InputError(
            f"{path} is not the provenance of a daskmr output. Give an OUTPUT{META_SUFFIX}."
        )
    if mark["meta"] != FORMAT:
        raise InputError(
            f"{path} was written by daskmr {mark.get('version')}, in a format that this version "
            f"({__version__}) cannot read. Use that one."
        )
    for part, names in _NEEDED.items():
        within = content.get(part)
        if not isinstance(within, dict) or not all(name in within for name in names):
            raise InputError(f"{path} is incomplete: it lacks {part!r}, which every run writes.")
    if not isinstance(content.get("layout"), list) or "sample" not in content:
        raise InputError(f"{path} is incomplete: it lacks the layout or the sample of the run.")
    return cast(dict[str, Any], content)


# --- two runs -------------------------------------------------------------------------------------


def repeat(
    path: str, script: str | list[str] | None, options: Mapping[str, Any], given: Collection[str]
) -> tuple[str | list[str], dict[str, Any], dict[str, Any]]:
    """Return the script, or several, and the options of an earlier run, and its provenance.

    - `path`: the path of an ``OUTPUT.meta.json``.
    - `script`: a script to use instead of the earlier run's.
    - `options`: all options, by name.
    - `given`: names of the options that override those of the earlier run.
    Raises `InputError` if the file cannot be read, or its run had no script.
    """
    meta = read_meta(path)
    script = script or script_in(meta)
    if script is None:
        raise InputError(
            f"The run of {path} had no script: its functions were passed from Python. Repeat it from "
            "Python."
        )
    again = {name: value for name, value in _recorded(meta).items() if name not in _NOT_AGAIN}
    for group in (_CHOICE_OPTIONS, _PLACES, _LAYOUTS):
        if group & set(given):
            again = {name: value for name, value in again.items() if name not in group}
    if "data_dir" not in given:
        names = meta.get("unfilled", {}).get("sources", meta["input"].get("sources", ()))
        again["data_dir"] = _sources_again(again["data_dir"], names, path, "bucket" in given)
    # A URL with masked credentials must be given again.
    masks = {n for n, v in again.items() if isinstance(v, str) and "://" in v and HIDDEN in v}
    for part in ("params", "files"):
        again[part] |= options.get(part) or {}
    known = {n: v for n, v in again.items() if v is not None and n not in masks}
    return script, {**options, **known, **{name: options[name] for name in given}}, meta


def recorded_params(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a run; those that a script does not have any more are ignored."""
    found: dict[str, dict[int, Any]] = {}
    for place, params in enumerate(parts_in(meta, "params")):
        for name, value in params.items():
            found.setdefault(name, {})[place] = value
    return {name: RecordedParam(values) for name, values in found.items()}


def recorded_files(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of the files that were given for a run, by name."""
    return {
        name: file["path"]
        for files in parts_in(meta, "files")
        for name, file in files.items()
        if file["given"]
    }


def script_in(meta: Mapping[str, Any]) -> str | list[str] | None:
    """Return the path of the script of a run, or its `Code`; ``None`` for functions from Python.

    If its steps are from several scripts, return a list.
    """
    scripts = [_path_or_code(script) for script in scripts_of(meta)]
    found = [script for script in scripts if script is not None]
    if len(found) < len(scripts):
        return None
    return found[0] if len(found) == 1 else found


def _path_or_code(script: Mapping[str, Any]) -> str | None:
    text = script.get("text")
    return script["path"] if text is None else Code(text)


def _sources_again(
    recorded: str | list[str] | None, names: Sequence[str], path: str, has_bucket: bool
) -> str | list[str] | None:
    """Return the recorded ``data_dir`` to read again, without its URL if a bucket replaces it."""
    values = [recorded] if isinstance(recorded, str) else recorded or []
    if len(names) == len(values):
        values = list(map(Recorded.of, values, names))
    if any("://" in value and HIDDEN in value for value in values):
        return None  # must be given again, as it held credentials
    if {"-", "@-"} & set(values):
        raise InputError(
            f"The run of {path} read standard input, which cannot be repeated. Give its data again: "
            f"daskmr run --from {shell_word(path)} -d FILE"
        )
    kept = [value for value in values if not (has_bucket and "://" in value)]
    return kept[0] if len(kept) == 1 else kept or None


def _recorded(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run by their names on the command line."""
    options = {
        **meta["options"],
        "data_dir": meta["input"]["data_dir"],
        "input_filter": {name: meta["filter"][name] for name in ("version", "dimensions")},
        "output": meta["output"]["path"],
        "where": tuple(meta.get("where", ())),
        "pass_env": tuple(meta.get("pass_env", ())),
        "date": meta.get("date"),
    }
    records = meta.get("records") or KEYED_RECORDS
    if records["name"] not in ("keyed", "read"):
        options |= {"records": records["name"], "key": records["key"]}
    options |= {"params": recorded_params(meta), "files": recorded_files(meta)}
    options["py_files"] = tuple(meta.get("py_files", ()))
    unfilled = meta.get("unfilled", {})  # which takes another date, too
    options["input_filter"] = unfilled.get("filter", options["input_filter"])
    options |= {name: unfilled[name] for name in ("data_dir", "output") if name in unfilled}
    options["params"] |= unfilled.get("params", {})
    choice = meta["sample"] or {}
    options |= {option: choice[name] for name, option in _CHOICE.items() if name in choice}
    if choice.get("share") is not None:
        options["sample_by"] = choice["by"]
    return options
