"""The settings of one run: packaged defaults in ``dask.config``, options on top, one frozen value."""

from __future__ import annotations

import difflib
import functools
import ipaddress
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import dask.config
import yaml
from dask.utils import parse_bytes, parse_timedelta

from daskmr.errors import InputError

__all__ = ["Config", "load_config"]

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Config:
    """One run's settings.

    Attributes
    ----------
    num_mappers : int or None
        Worker processes; ``None`` is one a core.
    num_reducers : int or None
        Reduce tasks; ``None`` follows the size of the data.
    work_dir : str
        Folder for what is temporary.
    memory_limit : int or "auto"
        Bytes a worker process may use; 0 is no limit.
    partition_bytes, spill_bytes : int
        Plan settings, in bytes.
    combine_size : int
        Values a key collects before ``combine`` is called.
    max_bad_records : int, float or None
        A count, or a share of the records between 0.0 and 1.0; 1.0 and ``None`` are no limit.
    bad_records_saved : int
        Raw bytes of bad records that are kept.
    max_record_bytes : int
        Length beyond which a line is a bad record.
    skip_corrupt_files, skip_poison_files : bool
        Leave out whole what cannot be decompressed, and what kills its worker twice.
    allow_empty : bool
        Write an empty output when the filter matches nothing.
    meta : bool
        Say beside the output where it is from.
    file_timeout : float or None
        Seconds that one file may take.
    stopped_timeout : float or None
        Seconds that a local worker process may be stopped.
    spill_dir : str or None
        A shared path, or a URL, for what workers keep on disk for each other.
    schema : str or None
        Path of the layout's schema.
    bucket : str or None
        A bucket, or a URL that fsspec knows, to read from.
    endpoint_url, aws_profile, region : str or None
        How to reach it.
    anon, requester_pays : bool
        Without credentials; at the cost of who asks.
    local_only, allow_incomplete : bool
        Touch no network; go on though something was never listed or fetched.
    cache : bool
        Keep local copies of what is fetched.
    cache_max : int or None
        Bytes that they may take.
    prefetch_bytes : int
        Bytes that a mapper may have on their way, ahead of what it maps.
    fetch_processes : bool or "auto"
        Have a process beside each local worker fetch for it; "auto": where that is worth it.
    fetch_retries : int
        How often a request is tried again.
    skip_missing : bool
        Leave out what cannot be fetched.
    read_timeout, connect_timeout : float
        Seconds without a byte, and to be connected, before a request is tried again.
    scheduler : str or None
        Address of a Dask scheduler to use.
    cluster : str or None
        Name or file of a cluster to make for the run.
    clusters : dict
        Those that have a name.
    tls_ca_file, tls_cert, tls_key : str or None
        Files with which to talk to a scheduler over TLS.
    local_tls : bool
        Have the processes on this machine talk over TLS; true where Dask requires encryption.
    worker_timeout : float
        Seconds to wait for the first worker of a cluster that has none.
    dashboard : str or None
        Where the dashboard of local workers listens, as ``"127.0.0.1:8787"``, or ``"off"``; ``None``
        is any free port, once a job has run for some seconds.
    """

    num_mappers: int | None
    num_reducers: int | None
    work_dir: str
    memory_limit: int | str
    partition_bytes: int
    spill_bytes: int
    combine_size: int
    max_bad_records: int | float | None
    bad_records_saved: int
    max_record_bytes: int
    skip_corrupt_files: bool
    skip_poison_files: bool
    allow_empty: bool
    meta: bool
    file_timeout: float | None
    stopped_timeout: float | None
    spill_dir: str | None
    schema: str | None
    bucket: str | None
    endpoint_url: str | None
    aws_profile: str | None
    region: str | None
    anon: bool
    requester_pays: bool
    local_only: bool
    allow_incomplete: bool
    cache: bool
    cache_max: int | None
    prefetch_bytes: int
    fetch_processes: bool | str
    fetch_retries: int
    skip_missing: bool
    read_timeout: float
    connect_timeout: float
    scheduler: str | None
    cluster: str | None
    clusters: Mapping[str, Any]
    tls_ca_file: str | None
    tls_cert: str | None
    tls_key: str | None
    local_tls: bool
    worker_timeout: float
    dashboard: str | None

    @property
    def limits_bad_records(self) -> bool:
        """Whether there can be too many bad records."""
        limit = self.max_bad_records
        return limit is not None and (type(limit) is int or limit < 1)

    def allowed_bad_records(self, records: int) -> int:
        """Return how many of this number of records may be bad."""
        limit = self.max_bad_records
        if limit is None or type(limit) is int:
            return records if limit is None else limit
        return math.floor(limit * records + 1e-6)  # 29% of 100 are 29, and in floats a little less


@functools.cache
def _packaged_defaults() -> Any:
    text = resources.files("daskmr").joinpath("daskmr.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def load_config(**options: Any) -> Config:
    """Read ``daskmr:`` from ``dask.config``, with `options` on top.

    Parameters
    ----------
    **options
        Fields of `Config`; ``None`` means "not given".

    Raises
    ------
    InputError
        For a value that is not of its form, naming the setting, or an option or a setting that is
        not one.
    """
    _refuse_unknown(options)
    dask.config.update(dask.config.config, _packaged_defaults(), priority="old")
    values = {}
    for field in Config.__dataclass_fields__:
        name = field.replace("_", "-")
        given = options.get(field)
        value = _configured(name) if given is None else given
        try:
            values[field] = _PARSERS[field](value)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"The setting {name} cannot be {value!r}: {error}.") from None
    # Dask refuses any connection without encryption then, also those on this machine.
    if dask.config.get("distributed.comm.require-encryption", None):
        values["local_tls"] = True
    return Config(**values)


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raise InputError for what would be passed over, though somebody meant something by it."""
    known = tuple(Config.__dataclass_fields__)
    for name in sorted(options.keys() - set(known)):
        raise InputError(f"Unknown option {name!r}. {_suggest(name, known)}")
    settings = dask.config.get("daskmr", None) or {}
    if not isinstance(settings, Mapping):
        raise InputError(
            f"In Dask's configuration, daskmr is {settings!r}, and not a mapping of settings. Look "
            "in its YAML files, and for DASK_DASKMR in the environment."
        )
    for name in map(str, settings):
        if name.replace("-", "_") not in known:
            names = tuple(field.replace("_", "-") for field in known)
            raise InputError(
                f"Unknown setting daskmr.{name} in Dask's configuration (a YAML file, or "
                f"DASK_DASKMR__{name.upper().replace('-', '_')} in the environment). "
                f"{_suggest(name.replace('_', '-'), names)}"
            )


def _suggest(name: str, known: tuple[str, ...]) -> str:
    like = difflib.get_close_matches(name, known, 1)
    return f"Did you mean {like[0]}?" if like else f"There are {', '.join(known)}."


def _configured(name: str) -> Any:
    value = dask.config.get(f"daskmr.{name}")
    # A variable of the environment that is empty stands for one that is not set.
    return _packaged_defaults()["daskmr"][name] if value == "" else value


def _optional(parse: Any) -> Any:
    return lambda value: None if value is None else parse(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) and not hasattr(value, "__fspath__"):
        raise ValueError("it must be a path")
    if not str(value):
        raise ValueError("it must not be empty")
    return str(value)


def _file(value: Any) -> str:
    """A file that is read again and again, whatever the working directory is then."""
    return os.path.abspath(_text(value))


def _positive(value: Any) -> int:
    try:
        count = int(value)
        whole = not isinstance(value, bool) and count == float(value)
    except (TypeError, ValueError):
        count, whole = 0, False
    if not whole or count < 1:
        raise ValueError("it must be a whole number of at least 1")
    return count


def _count(value: Any) -> int:
    return 0 if value in (0, "0") and not isinstance(value, bool) else _positive(value)


def _bytes(value: Any) -> int:
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
    """``7`` is a count and ``"0.5%"`` a share, here 0.005."""
    text = str(value).strip()
    share = text.endswith("%")
    try:
        number = float(text[:-1]) / 100 if share else int(text)
    except ValueError:
        number = -1
    if number < 0 or (share and not number <= 1):
        raise ValueError('it must be a count such as 100, or a share of up to 100%, as "0.1%"')
    return number


def _seconds(value: Any) -> float:
    if isinstance(value, str):
        value = re.sub(r"min$", "minutes", value.strip())  # which Dask does not know
    seconds = float(parse_timedelta(value))
    if not seconds > 0:
        raise ValueError("it must be longer than 0 seconds")
    return seconds


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it must be true or false")
    return value


def _dashboard(value: Any) -> str:
    if value in (False, "off"):  # in YAML, off is false
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
            "it must be an address of this machine alone, as 127.0.0.1:8787: whoever reaches the "
            f"dashboard sees the job and its data. From elsewhere use `ssh -L {port}:127.0.0.1:{port}`"
        )
    if ":" in address:  # of which Dask makes nothing
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


_PARSERS: dict[str, Any] = {
    "num_mappers": _optional(_positive),
    "num_reducers": _optional(_positive),
    "work_dir": _text,
    "memory_limit": _memory_limit,
    "partition_bytes": _bytes,
    "spill_bytes": _bytes,
    "combine_size": _positive,
    "max_bad_records": _optional(_share_or_count),
    "bad_records_saved": _bytes,
    "max_record_bytes": _bytes,
    "skip_corrupt_files": _flag,
    "skip_poison_files": _flag,
    "allow_empty": _flag,
    "meta": _flag,
    "file_timeout": _optional(_seconds),
    "stopped_timeout": _optional(_seconds),
    "spill_dir": _optional(_text),
    "schema": _optional(_text),
    "bucket": _optional(_text),
    "endpoint_url": _optional(_text),
    "aws_profile": _optional(_text),
    "region": _optional(_text),
    "anon": _flag,
    "requester_pays": _flag,
    "local_only": _flag,
    "allow_incomplete": _flag,
    "cache": _flag,
    "cache_max": _optional(_bytes),
    "prefetch_bytes": _bytes,
    "fetch_processes": _flag_or_auto,
    "fetch_retries": _count,
    "skip_missing": _flag,
    "read_timeout": _seconds,
    "connect_timeout": _seconds,
    "scheduler": _optional(_text),
    "cluster": _optional(_text),
    "clusters": _mapping,
    "tls_ca_file": _optional(_file),
    "tls_cert": _optional(_file),
    "tls_key": _optional(_file),
    "local_tls": _flag,
    "worker_timeout": _seconds,
    "dashboard": _optional(_dashboard),
}
