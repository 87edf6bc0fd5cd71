"""Settings: where they come from, which one wins, and what a bad one says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import dask.config
import pytest
import yaml
from support.jobs import ROOT

from daskmr.cli.entry import main
from daskmr.config import ARGUMENTS, SETTINGS, load_config
from daskmr.data.layout import load_layout
from daskmr.errors import InputError

CONF = ROOT / "conf"
DEFAULTS: dict[str, Any] = {
    "output_format": None,
    "records": None,
    "key": None,
    "num_mappers": None,
    "num_reducers": None,
    "work_dir": ".daskmr",
    "memory_limit": "auto",
    "partition_bytes": 16 << 20,
    "spill_bytes": 64 << 20,
    "combine_size": 50,
    "max_bad_records": 0.5,
    "on_error": "fail",
    "bad_records_saved": 4 << 20,
    "max_record_bytes": 1 << 30,
    "skip_corrupt_files": False,
    "skip_poison_files": False,
    "allow_empty": False,
    "meta": True,
    "file_timeout": None,
    "stopped_timeout": 30.0,
    "spill_dir": None,
    "layout": None,
    "schema": None,
    "bucket": None,
    "endpoint_url": None,
    "aws_profile": None,
    "region": None,
    "anon": False,
    "requester_pays": False,
    "local_only": False,
    "allow_incomplete": False,
    "cache": True,
    "cache_max": None,
    "prefetch_bytes": 64 << 20,
    "fetch_processes": "auto",
    "fetch_retries": 10,
    "skip_missing": False,
    "read_timeout": 60.0,
    "connect_timeout": 5.0,
    "scheduler": None,
    "cluster": None,
    "clusters": {},
    "tls_ca_file": None,
    "tls_cert": None,
    "tls_key": None,
    "local_tls": False,
    "worker_timeout": 300.0,
    "dashboard": None,
}
PRINT_COMBINE_SIZE = "from daskmr.config import load_config; print(load_config().combine_size)"


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine() -> Iterator[None]:
    with dask.config.set({"daskmr": {}}):
        dask.config.config.pop("daskmr", None)
        yield


def as_option(name: str) -> str:
    return name.replace("-", "_")


# --- the packaged files ---------------------------------------------------------------------------


def test_defaults_are_those_packaged() -> None:
    assert asdict(load_config()) == DEFAULTS


def test_every_setting_has_a_default_in_conf() -> None:
    settings = yaml.safe_load((CONF / "daskmr.yaml").read_text("utf-8"))["daskmr"]
    assert [as_option(name) for name in settings] == list(SETTINGS)
    assert asdict(load_config(**{as_option(k): v for k, v in settings.items()})) == DEFAULTS


def test_conf_and_the_tables_of_the_documents_are_written_from_the_table() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "settings", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_option_of_a_setting_is_one_of_the_commands() -> None:
    run = main.get_command(click.Context(main), "run")
    assert run is not None
    given = {parameter.name: tuple(parameter.opts) for parameter in run.params}
    for name, row in SETTINGS.items():
        assert given.get(name, ()) == row.options


def test_three_settings_may_change_an_output() -> None:
    plan = {name for name, row in SETTINGS.items() if row.plan}
    assert plan == {"partition_bytes", "spill_bytes", "combine_size"}


def test_what_may_hold_credentials_is_not_recorded() -> None:
    recorded = load_config().recorded()
    assert SETTINGS.keys() - recorded.keys() == {"clusters"}
    assert recorded == {name: DEFAULTS[name] for name in recorded}


def test_conf_as_a_file_of_dask_changes_nothing() -> None:
    with dask.config.set(yaml.safe_load((CONF / "daskmr.yaml").read_text("utf-8"))):
        assert asdict(load_config()) == DEFAULTS


def test_schema_in_conf_is_the_packaged_one() -> None:
    path = CONF / "schema.json"
    assert load_layout(path) == load_layout()
    names = [dimension["field_name"] for dimension in json.loads(path.read_bytes())["dimensions"]]
    assert load_layout(path).field_names == tuple(names)


# --- which one wins -------------------------------------------------------------------------------


def test_dask_config_beats_the_default() -> None:
    with dask.config.set({"daskmr.combine-size": 7}):
        assert load_config().combine_size == 7
    assert load_config().combine_size == 50


def test_option_beats_dask_config() -> None:
    with dask.config.set({"daskmr.combine-size": 7, "daskmr.skip-corrupt-files": True}):
        config = load_config(combine_size=9, skip_corrupt_files=False)
    assert (config.combine_size, config.skip_corrupt_files) == (9, False)


def test_none_is_not_given() -> None:
    with dask.config.set({"daskmr.max-bad-records": 5}):
        assert load_config(max_bad_records=None).max_bad_records == 5


def test_environment_is_followed_and_dask_config_beats_it() -> None:
    code = (
        f"{PRINT_COMBINE_SIZE}; import dask.config; dask.config.set({{'daskmr.combine-size': 8}}); "
        "print(load_config().combine_size, load_config(combine_size=9).combine_size)"
    )
    assert run_python(code, {"DASK_DASKMR__COMBINE_SIZE": "7"}) == "7\n8 9\n"


def test_yaml_file_is_followed_and_environment_beats_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("daskmr:\n  combine-size: 6\n", "utf-8")
    folder = {"DASK_CONFIG": str(tmp_path)}
    assert run_python(PRINT_COMBINE_SIZE, folder) == "6\n"
    assert run_python(PRINT_COMBINE_SIZE, {**folder, "DASK_DASKMR__COMBINE_SIZE": "7"}) == "7\n"


def run_python(code: str, environment: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


# --- forms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "limits", "allowed"),
    [(None, True, 50), (0, True, 0), (7, True, 7), ("29%", True, 29), ("100%", False, 100)],
)
def test_how_many_records_may_be_bad(limit: Any, limits: bool, allowed: int) -> None:
    config = load_config(max_bad_records=limit)
    assert config.limits_bad_records is limits
    assert config.allowed_bad_records(100) == allowed


def test_null_is_no_limit_of_bad_records() -> None:
    with dask.config.set({"daskmr.max-bad-records": None}):
        config = load_config()
    assert not config.limits_bad_records
    assert config.allowed_bad_records(100) == 100


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("num_mappers", 4, 4),
        ("num_reducers", "4", 4),
        ("memory_limit", "auto", "auto"),
        ("memory_limit", "2GB", 2_000_000_000),
        ("memory_limit", 0, 0),
        ("memory_limit", "0", 0),
        ("partition_bytes", "1 MiB", 1 << 20),
        ("spill_bytes", 5000, 5000),
        ("max_bad_records", 0, 0),
        ("max_bad_records", "100", 100),
        ("max_bad_records", "0.5%", 0.005),
        ("max_bad_records", "0%", 0.0),
        ("max_bad_records", "100%", 1.0),
        ("file_timeout", "10 min", 600.0),
        ("file_timeout", "10 minutes", 600.0),
        ("file_timeout", "90", 90.0),
        ("file_timeout", 1.5, 1.5),
        ("schema", Path("a.json"), "a.json"),
        ("work_dir", Path("w"), "w"),
    ],
)
def test_forms(name: str, given: Any, value: Any) -> None:
    read = getattr(load_config(**{name: given}), name)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("num-mappers", value) for value in (0, -1, 1.5, "many", True, [])],
        *[("num-reducers", value) for value in (0, "2.5")],
        *[("combine-size", value) for value in (0, "x", None, {}, float("inf"), float("nan"))],
        *[("partition-bytes", value) for value in (0, -1, "16 Mega", None, [])],
        *[("spill-bytes", value) for value in ("much", -5)],
        *[("bad-records-saved", value) for value in ("many", None)],
        *[("max-record-bytes", value) for value in (0, "long")],
        *[("memory-limit", value) for value in ("lots", -1, None)],
        *[("max-bad-records", value) for value in (-1, "-1%", "101%", "some", "5 %%", 0.5, True)],
        *[("file-timeout", value) for value in (0, -1, "soon", "10 parsecs", [])],
        *[("skip-corrupt-files", value) for value in ("yes", 1, None)],
        *[("allow-empty", value) for value in (1, "no")],
        *[("work-dir", value) for value in (5, None)],
        *[("schema", value) for value in (5, ["a"])],
    ],
    ids=repr,
)
def test_bad_value_names_the_setting(name: str, value: Any) -> None:
    with (
        dask.config.set({f"daskmr.{name}": value}),
        pytest.raises(InputError, match=f"^The setting {name} cannot be ") as caught,
    ):
        load_config()
    assert str(caught.value).endswith(".")
    assert caught.value.exit_code == 2


def test_what_is_empty_is_refused_as_an_option_and_not_set_in_the_environment() -> None:
    for name in ("spill_dir", "cluster", "scheduler", "work_dir"):
        with pytest.raises(InputError, match="cannot be '': it must not be empty"):
            load_config(**{name: ""})
    with dask.config.set({"daskmr.cluster": "", "daskmr.work-dir": ""}):
        assert (load_config().cluster, load_config().work_dir) == (None, ".daskmr")


def test_bad_option_names_the_setting() -> None:
    with pytest.raises(InputError, match=r"The setting spill-bytes cannot be 'big'"):
        load_config(spill_bytes="big")


def test_unknown_option_names_the_one_that_is_like_it() -> None:
    with pytest.raises(
        InputError, match=r"Unknown option 'combinesize'. Did you mean combine_size"
    ):
        load_config(combinesize=5)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (":8787", "127.0.0.1:8787"),
        ("localhost:0", "127.0.0.1:0"),
        ("127.0.0.2:8787", "127.0.0.2:8787"),
        (8787, "127.0.0.1:8787"),
        ("off", "off"),
        (False, "off"),
        (None, None),
    ],
)
def test_where_the_dashboard_listens(given: object, meant: str | None) -> None:
    assert load_config(dashboard=given).dashboard == meant


@pytest.mark.parametrize("given", ["0.0.0.0:8787", "10.0.0.1:8787", "host:8787", "[::]:80"])
def test_a_dashboard_for_all_the_world_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="must be an address of this machine alone"):
        load_config(dashboard=given)


@pytest.mark.parametrize("given", ["", "on", "localhost", ":99999", ":x", "[::1]:8787"])
def test_a_dashboard_that_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="The setting dashboard cannot be"):
        load_config(dashboard=given)
    with pytest.raises(InputError, match=r"Unknown option 'zzz'. There are bucket, "):
        load_config(zzz=5)
    with pytest.raises(InputError, match=r"Unknown option 'datadir'. Did you mean data_dir\?"):
        load_config(datadir=5)


def test_other_arguments_are_those_of_mapreduce() -> None:
    from inspect import signature

    from daskmr import mapreduce

    assert {*ARGUMENTS} <= {*signature(mapreduce).parameters} - {*SETTINGS}


@pytest.mark.parametrize("name", ["combin-size", "combin_size"])
def test_unknown_setting_names_the_one_that_is_like_it(name: str) -> None:
    with (
        dask.config.set({f"daskmr.{name}": 7}),
        pytest.raises(InputError, match=r"Unknown setting daskmr.combin.* mean combine-size\?"),
    ):
        load_config()


def test_settings_may_have_underscores() -> None:
    with dask.config.set({"daskmr": {"combine_size": 7}}):
        assert load_config().combine_size == 7


def test_unknown_setting_in_the_environment_is_named() -> None:
    code = f"import sys\ntry:\n    {PRINT_COMBINE_SIZE}\nexcept Exception as e: print(e)"
    said = run_python(code, {"DASK_DASKMR__COMBINSIZE": "7"})
    assert "DASK_DASKMR__COMBINSIZE in the environment" in said


@pytest.mark.parametrize("value", [3, "x", [1]])
def test_settings_that_are_no_mapping_are_an_error(value: Any) -> None:
    with (
        dask.config.set({"daskmr": value}),
        pytest.raises(InputError, match="not a mapping of settings"),
    ):
        load_config()
