"""The table of all settings, and the loading of the settings of a run.

Each field of `Config` declares a setting: its type, default, command-line option and help. The
options of the command line are built from it, and ``scripts/settings`` generates conf/daskmr.yaml and
the tables in the documentation. Dask is imported only when settings are read, because ``--help``
needs only the table.
"""

# ruff: noqa: RUF009  # a default of `Config` is a row of the table, not a shared value
# No `from __future__ import annotations`, because the types of the fields are evaluated.
import difflib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Annotated, Any, get_args

from daskmr.errors import InputError

__all__ = [
    "ARGUMENTS",
    "SETTINGS",
    "Config",
    "Setting",
    "choose_layout",
    "load_config",
    "one_layout",
]

_LOOPBACK = "127.0.0.1"


# --- forms of values ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of values."""

    parse: Callable[[Any], Any]
    metavar: str = ""  # for ``--help``
    least: int | None = None


def _text(value: Any) -> str:
    if not isinstance(value, str) and not hasattr(value, "__fspath__"):
        raise ValueError("it must be a path")
    if not str(value):
        raise ValueError("it must not be empty")
    return str(value)


def _file(value: Any) -> str:
    """Make a path absolute, because the working directory may change before the file is read."""
    return os.path.abspath(_text(value))


def _positive(value: Any) -> int:
    try:
        count = int(value)
        is_integer = not isinstance(value, bool) and count == float(value)
    except (TypeError, ValueError):
        count, is_integer = 0, False
    if not is_integer or count < 1:
        raise ValueError("it must be a whole number of at least 1")
    return count


def _count(value: Any) -> int:
    return 0 if value in (0, "0") and not isinstance(value, bool) else _positive(value)


def _bytes(value: Any) -> int:
    from dask.utils import parse_bytes

    try:
        count = int(parse_bytes(value))
    except ValueError:
        raise ValueError('it must be a size such as "64 MiB" or "2GB"') from None
    if count < 1:
        raise ValueError("it must be at least one byte")
    return count


def _memory_limit(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    return 0 if value in (0, "0", "none") else _bytes(value)


def _share_or_count(value: Any) -> int | float:
    """Parse ``7`` as a count, and ``"0.5%"`` as the share 0.005."""
    text = str(value).strip()
    share = text.endswith("%")
    try:
        number = float(text[:-1]) / 100 if share else int(text)
    except ValueError:
        number = -1
    if number < 0 or (share and not number <= 1):
        raise ValueError('it must be a count such as 100, or a share of up to 100%, as "0.1%"')
    return number


def _on_error(value: Any) -> str:
    if value not in ("skip", "fail"):
        raise ValueError("it must be skip or fail")
    return str(value)


def _seconds(value: Any) -> float:
    from dask.utils import parse_timedelta

    if isinstance(value, str):
        value = re.sub(r"min$", "minutes", value.strip())  # Dask does not know "min"
    seconds = float(parse_timedelta(value))
    if not seconds > 0:
        raise ValueError("it must be longer than 0 seconds")
    return seconds


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it must be true or false")
    return value


def _dashboard(value: Any) -> str:
    import ipaddress

    if value in (False, "off"):  # YAML reads off as false
        return "off"
    host, _, port = str(value).rpartition(":")
    address = host.strip("[]").replace("localhost", _LOOPBACK) or _LOOPBACK
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError('it must be "off" or an address such as "127.0.0.1:8787" or ":8787"')
    try:
        local = ipaddress.ip_address(address).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ValueError(
            "it must be an address of this machine alone, as 127.0.0.1:8787: anyone who reaches the "
            f"dashboard sees the job and its data. From elsewhere use `ssh -L {port}:127.0.0.1:{port}`"
        )
    if ":" in address:  # Dask does not support IPv6 here
        raise ValueError(f"it must be an address of IPv4, as 127.0.0.1:{port}")
    return f"{address}:{port}"


def _flag_or_auto(value: Any) -> bool | str:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError("it must be true, false or auto")
    return bool(value) if isinstance(value, bool) else "auto"


def _mapping(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError("it must be a mapping")
    return value


Text = Annotated[str, Kind(_text)]
File = Annotated[str, Kind(_file, "FILE")]
PositiveInt = Annotated[int, Kind(_positive, "N", least=1)]
NonNegativeInt = Annotated[int, Kind(_count, "N", least=0)]
Bytes = Annotated[int, Kind(_bytes, "SIZE")]
MemoryLimit = Annotated[int | str, Kind(_memory_limit, "SIZE")]
OnError = Annotated[str, Kind(_on_error, "skip|fail")]
ShareOrCount = Annotated[int | float, Kind(_share_or_count, "N|N%")]
Seconds = Annotated[float, Kind(_seconds, "TIME")]
Flag = Annotated[bool, Kind(_flag)]
FlagOrAuto = Annotated[bool | str, Kind(_flag_or_auto)]
Dashboard = Annotated[str, Kind(_dashboard, "ADDRESS|off")]
Clusters = Annotated[Mapping[str, Any], Kind(_mapping)]


# --- the table ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str  # field of `Config`; with hyphens, the name in Dask's configuration
    kind: Kind
    optional: bool  # whether ``None`` is a value
    group: str  # section of ``--help`` and of conf/daskmr.yaml
    default: Any  # the default as written in YAML
    help: str  # text for ``--help`` and the documentation, with code in backticks
    options: tuple[str, ...]  # command-line options; ``--no-...`` turns the setting off
    note: str = ""  # additional text for the documentation only
    shown: str = ""  # the default as shown in ``--help``
    metavar: str = ""  # placeholder for the value in ``--help``
    # Determines how values are grouped, and so may change the output of an inexact `combine`, unlike
    # all other settings.
    plan: bool = False
    run_only: bool = False  # not an option of ``daskmr plan``, whose output it does not affect
    rerun: bool = True  # included in the command that runs one file again in one process
    secret: bool = False  # may contain credentials, and is not recorded

    @property
    def key(self) -> str:
        """Name in Dask's configuration, under ``daskmr``."""
        return self.name.replace("_", "-")

    @property
    def is_flag(self) -> bool:
        """Check whether the option takes no value."""
        return self.kind.parse is _flag

    def parse(self, value: Any) -> Any:
        """Parse a value; errors do not name the setting."""
        return None if value is None and self.optional else self.kind.parse(value)


def _setting(group: str, default: Any, help: str, options: str = "", **attributes: Any) -> Any:
    row = {"group": group, "default": default, "help": help, "options": (*options.split(),)}
    return field(metadata=row | attributes)


_input = partial(_setting, "Input")
_output = partial(_setting, "Output")
_worker = partial(_setting, "Workers")
_bad = partial(_setting, "Bad records and files", run_only=True)
_store = partial(_setting, "Object store")
_cluster = partial(_setting, "Cluster", rerun=False)
_display = partial(_setting, "Display", rerun=False)


class _Tolerance:
    """How many bad records the settings allow."""

    __slots__ = ()
    max_bad_records: int | float | None

    @property
    def limits_bad_records(self) -> bool:
        """Check whether there can be too many bad records."""
        return (limit := self.max_bad_records) is not None and (type(limit) is int or limit < 1)

    def allowed_bad_records(self, records: int) -> int:
        """Return how many of `records` records may be bad."""
        limit = self.max_bad_records
        if limit is None or type(limit) is int:
            return records if limit is None else limit
        return math.floor(limit * records + 1e-6)  # in floats, 29% of 100 is slightly less than 29


@dataclass(frozen=True, slots=True)
class Config(_Tolerance):
    """The settings of a run, from `load_config`; sizes are in bytes, times in seconds."""

    bucket: Text | None = _input(
        None,
        "Bucket to read: `NAME`, `NAME/prefix`, or a URL that fsspec supports.",
        "-b --bucket",
        metavar="BUCKET",
    )
    layout: Text | None = _input(
        None,
        "Layout of the paths: a template such as `{day:date}/{host}.log`, `hive`, `flat`, or a JSON file.",
        "--layout",
        metavar="TEMPLATE",
        shown="the packaged one",
    )
    schema: Text | None = _input(
        None, "JSON file of the layout, as `--layout FILE`.", "--schema", metavar="FILE"
    )
    records: Text | None = _input(
        None,
        "Format of the records: `keyed`, `lines`, `jsonl`, `csv`, `tsv`, `parquet`, or that of a plug-in.",
        "--records",
        metavar="FORMAT",
        shown="what the script says, or keyed",
    )
    key: Text | None = _input(
        None,
        "Field of a record whose value is its key, such as `user.id`; not for keyed records.",
        "--key",
        metavar="FIELD",
        shown="the path of the file",
    )
    local_only: Flag = _input(
        False, "Work offline: use only what earlier runs have fetched.", "-l --local-only"
    )
    allow_incomplete: Flag = _input(
        False,
        "With `-l`, continue even if some files were never listed or fetched.",
        "--allow-incomplete",
        note="A note says what is missing.",
    )

    output_format: Text | None = _output(
        None,
        "Format of the output: `text`, `jsonl`, `csv`, `tsv` or `parquet`.",
        "--output-format",
        metavar="FORMAT",
        shown="by the suffix of the output",
        rerun=False,
    )
    allow_empty: Flag = _output(
        False,
        "Write an empty output if the filter matches nothing.",
        "--allow-empty",
        note="The exit code is then 0.",
    )
    meta: Flag = _output(
        True,
        "Write `OUTPUT.meta.json`, which records the provenance of the output.",
        "--no-meta",
        run_only=True,
        rerun=False,
    )

    num_mappers: PositiveInt | None = _worker(
        None,
        "Number of worker processes, one thread each.",
        "-m --num-mappers",
        shown="one per core",
        rerun=False,
    )
    num_reducers: PositiveInt | None = _worker(
        None,
        "Number of reduce tasks.",
        "-r --num-reducers",
        shown="a number based on the data size",
        rerun=False,
    )
    work_dir: Text = _worker(
        ".daskmr",
        "Directory for temporary files; created if missing.",
        "-w --work-dir",
        metavar="DIR",
    )
    memory_limit: MemoryLimit = _worker(
        "auto",
        "Memory limit of each worker process, such as `2GB`; `0` means no limit.",
        "--memory-limit",
        note="`auto` is an equal share.",
        shown="an equal share",
        rerun=False,
    )
    file_timeout: Seconds | None = _worker(
        None,
        'Fail if mapping one file takes longer than this, such as `"10 min"`.',
        "--file-timeout",
        shown="no limit",
        run_only=True,
    )
    stopped_timeout: Seconds | None = _worker(
        "30 s",
        "Replace a local worker process that is stopped (SIGSTOP) for longer than this; `null` means never.",
    )
    partition_bytes: Bytes = _worker(
        "16 MiB", "Target size of the compressed input of a map task.", plan=True
    )
    spill_bytes: Bytes = _worker(
        "64 MiB",
        "Estimated memory of a partition's pairs above which they are spilled to disk.",
        plan=True,
    )
    combine_size: PositiveInt = _worker(
        50, "Number of values that a key collects before `combine` is called.", plan=True
    )

    max_bad_records: ShareOrCount | None = _bad(
        "50%",
        "Fail if more records than this are bad; `0` allows none, `100%` means no limit.",
        "--max-bad-records",
        note="A count, or a share such as `0.1%`.",
    )
    on_error: OnError = _bad(
        "fail",
        "`skip`: a `KeyError`, `TypeError`, `IndexError` or `AttributeError` in `map` is a bad record.",
        "--on-error",
        note="`fail`: it fails the job.",
    )
    bad_records_saved: Bytes = _bad(
        "4 MiB",
        "Most raw bytes of bad records that are saved (10,000 records at most); all are counted.",
    )
    max_record_bytes: Bytes = _bad(
        "1 GiB",
        "Longer lines are bad records.",
        note="A mapper needs twice the length of a line in memory, besides what `map` uses.",
    )
    skip_corrupt_files: Flag = _bad(
        False, "Skip files that cannot be decompressed instead of failing.", "--skip-corrupt-files"
    )
    skip_poison_files: Flag = _bad(
        False, "Skip files that crash their worker twice instead of failing.", "--skip-poison-files"
    )
    skip_missing: Flag = _bad(
        False, "Skip objects that cannot be fetched instead of failing.", "--skip-missing"
    )

    aws_profile: Text | None = _store(
        None, "Profile in the AWS configuration files.", "--aws-profile", metavar="NAME"
    )
    endpoint_url: Text | None = _store(
        None,
        "URL of an S3-compatible server other than Amazon's.",
        "--endpoint-url",
        metavar="URL",
        note="`null` uses `AWS_ENDPOINT_URL`.",
    )
    region: Text | None = _store(
        None, "Region of the bucket, if it cannot be detected.", "--region", metavar="NAME"
    )
    anon: Flag = _store(False, "Send unsigned requests, for public data.", "--anon")
    requester_pays: Flag = _store(
        False, "Agree to pay for requests to requester-pays buckets.", "--requester-pays"
    )
    cache: Flag = _store(
        True, "Keep local copies of fetched files, below the work directory.", "--no-cache"
    )
    cache_max: Bytes | None = _store(
        None, "Maximum total size of local copies, such as `50GB`.", "--cache-max", shown="no limit"
    )
    prefetch_bytes: Bytes = _store(
        "64 MiB", "Most bytes that a mapper fetches ahead of the file that it maps."
    )
    fetch_processes: FlagOrAuto = _store(
        "auto",
        "Fetch in a separate process beside each local worker: `true`, `false` or `auto`.",
        note="`auto` does so if there is much to fetch.",
    )
    fetch_retries: NonNegativeInt = _store(
        10, "Number of times that a failed request is retried, with exponential back-off."
    )
    read_timeout: Seconds = _store(
        "60 s",
        "Longest time without data before a request is retried.",
        note="Fewer than 1,000 bytes for each of its seconds count as none.",
    )
    connect_timeout: Seconds = _store("5 s", "Longest time to connect before a request is retried.")

    scheduler: Text | None = _cluster(
        None,
        "Address of an existing Dask scheduler, such as `tcp://HOST:8786`.",
        "--scheduler",
        metavar="ADDRESS",
        note="`null` uses Dask's `scheduler-address`, if it is set.",
    )
    cluster: Text | None = _cluster(
        None,
        "Cluster to create for the run: a YAML file, or a name such as `slurm`.",
        "--cluster",
        metavar="NAME|FILE",
    )
    clusters: Clusters = _cluster(
        {},
        "Clusters by name, each with `class`, `args`, and `scale` or `adapt`.",
        note="See docs/cluster.md.",
        secret=True,
    )
    spill_dir: Text | None = _cluster(
        None,
        "Shared storage for workers that cannot see the work directory.",
        "--spill-dir",
        metavar="DIR|URL",
        note="A path, or a URL such as `s3://BUCKET/spill`.",
    )
    tls_ca_file: File | None = _cluster(
        None,
        "CA certificate that verifies the cluster.",
        "--tls-ca-file",
        note="`null` leaves TLS to Dask's configuration.",
    )
    tls_cert: File | None = _cluster(None, "Certificate to present to the scheduler.", "--tls-cert")
    tls_key: File | None = _cluster(None, "Private key of `--tls-cert`.", "--tls-key")
    local_tls: Flag = _cluster(
        False,
        "Use TLS between the processes on this machine, with a temporary certificate.",
        note="Requires `pip install 'daskmr[tls]'`. It is on if Dask's "
        "`distributed.comm.require-encryption` is.",
    )
    worker_timeout: Seconds = _cluster(
        "5 min", "Time to wait for the first worker of a cluster that has none."
    )

    dashboard: Dashboard | None = _display(
        None,
        "Address of Dask's dashboard, such as `:8787`, or `off`.",
        "--dashboard",
        shown="any free port, after 10 s",
        run_only=True,
        note="Only for workers on this machine.",
    )

    def recorded(self) -> dict[str, Any]:
        """Return the settings that may be recorded, which excludes those with credentials."""
        return {name: getattr(self, name) for name, row in SETTINGS.items() if not row.secret}


def _form(annotation: Any) -> tuple[Kind, bool]:
    """Return the kind of a field's type, and whether ``None`` is also a value."""
    optional = type(None) in get_args(annotation)
    annotated = get_args(annotation)[0] if optional else annotation
    return annotated.__metadata__[0], optional


SETTINGS: Mapping[str, Setting] = {
    row.name: Setting(row.name, *_form(row.type), **row.metadata) for row in fields(Config)
}
"""All settings, by the name of their field."""


# --- reading --------------------------------------------------------------------------------------


def load_config(**options: Any) -> Config:
    """Load the settings from ``daskmr:`` in ``dask.config``, overridden by `options`.

    - `**options`: fields of `Config`; ``None`` means "not given".
    Raises `InputError`, which names the setting, for an invalid value, or for an option or setting
    that does not exist.
    """
    import dask.config

    _refuse_unknown(options, dask.config.get("daskmr", None) or {})
    defaults = {"daskmr": {row.key: row.default for row in SETTINGS.values()}}
    dask.config.update(dask.config.config, defaults, priority="old")
    values = {}
    for name, row in SETTINGS.items():
        value = options.get(name)
        if value is None:
            value = dask.config.get(f"daskmr.{row.key}")
            if value == "":  # an empty environment variable means "not set"
                value = row.default
        try:
            values[name] = row.parse(value)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"The setting {row.key} cannot be {value!r}: {error}.") from None
    # Dask then refuses all connections without encryption, even on this machine.
    if dask.config.get("distributed.comm.require-encryption", None):
        values["local_tls"] = True
    return Config(**values)


def _refuse_unknown(options: Mapping[str, Any], configured: Any) -> None:
    """Raise InputError for names that would otherwise be silently ignored."""
    for name in sorted(options.keys() - SETTINGS.keys()):
        raise InputError(f"Unknown option {name!r}. {_suggest(name, tuple(SETTINGS), ARGUMENTS)}")
    if not isinstance(configured, Mapping):
        raise InputError(
            f"In Dask's configuration, daskmr is {configured!r}, and not a mapping of settings. "
            "Look in its YAML files, and for DASK_DASKMR in the environment."
        )
    keys = tuple(row.key for row in SETTINGS.values())
    for name in map(str, configured):
        key = name.replace("_", "-")
        if key not in keys:
            raise InputError(
                f"Unknown setting daskmr.{name} in Dask's configuration (a YAML file, or "
                f"DASK_DASKMR__{name.upper().replace('-', '_')} in the environment). "
                f"{_suggest(key, keys)}"
            )


ARGUMENTS = (
    "client", "combine", "data_dir", "date", "delete_data", "inline", "input_columns", "input_filter",
    "limit_files", "map", "only", "output", "output_columns", "profile", "reduce", "sample",
    "sample_by", "seed", "setup_reduce", "where",
)  # fmt: skip
"""Arguments of `daskmr.mapreduce` that are no settings, to suggest one for an unknown name."""


def _suggest(name: str, known: tuple[str, ...], others: tuple[str, ...] = ()) -> str:
    like = difflib.get_close_matches(name, known + others, 1)
    return f"Did you mean {like[0]}?" if like else f"There are {', '.join(known)}."


def choose_layout(
    config: Config, given: Mapping[str, Any], declared: str | None = None
) -> str | None:
    """Return the layout to use: that of the options, the script or the configuration.

    - `given`: the options that were given explicitly.
    - `declared`: the layout in the script.
    Raises `InputError` if both forms of the option are given.
    """
    layout = one_layout(given.get("layout"), given.get("schema"))
    return layout or declared or config.layout or config.schema


def one_layout(layout: Any, schema: Any) -> str | None:
    """Return the layout that is given in either form; raise InputError if both are."""
    if layout is not None and schema is not None:
        raise InputError("--layout and --schema both give the layout. Use only --layout.")
    given = schema if layout is None else layout
    return None if given is None else str(given)
