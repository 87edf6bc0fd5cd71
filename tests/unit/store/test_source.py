"""Tests of `daskmr.store.source`."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from daskmr.errors import InputError
from daskmr.store.store import (
    parse_source,
)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


@pytest.mark.parametrize(
    ("given", "protocol", "root"),
    [
        ("name", "s3", "name"),
        ("name/a/b/", "s3", "name/a/b"),
        ("s3://name", "s3", "name"),
        ("S3A://name/a", "s3", "name/a"),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/mine/a", "s3", "arn:aws:s3:us-east-1:123456789012:accesspoint/mine/a"),
        ("file:///data/x/", "file", "/data/x"),
        ("memory://x", "memory", "/x"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_aws")
def test_source(given: str, protocol: str, root: str) -> None:
    source = parse_source(given)
    assert (source.protocol, source.root) == (protocol, root)
    assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "not the name of a bucket"),
        ("a\nb", "not the name of a bucket"),
        ("s3://", "does not begin with a bucket"),
        ("s3:///name/a", "s3:///name/a does not begin with a bucket"),
        ("Ünicode", "does not begin with a bucket"),
        ("name/../other", '".."'),
        ("./data", "--data-dir"),
        ("/data", "file:///data"),
        ("s3://key:secret@name", "--aws-profile"),
        ("s3a://key:secret@name/x", "s3a://***@name/x"),
        ("s3://key:a/secret@name/x", "s3://***@name/x"),
        ("abfs://box@account/x?sig=secret", "abfs://box@account/x?sig=***"),
        ("ftp://me:secret@host/x", "FSSPEC_FTP_PASSWORD"),
        ("nonsense://x", "nonsense:// is not a protocol that fsspec knows (nonsense://x)"),
        ("gs://name/a", "gs://name/a needs a package that is not installed (gcsfs)"),
        ("az://box@account/x", "az://box@account/x needs a package that is not installed (adlfs)"),
        ("ftp://host:port/x", "ftp://host:port/x is not a valid ftp:// URL"),
        ("ftp://[::1/x", "ftp://[::1/x is not a valid ftp:// URL"),
        ("file://", "names no bucket or folder"),
        ("memory://a::s3://b", "chains URLs"),
    ],
)
@pytest.mark.usefixtures("no_aws")
def test_source_that_is_none(given: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_source(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("ftp://host:21/a/", "ftp://host:21/a"),
        ("hdfs://namenode/a", "hdfs://namenode/a"),
        ("ftp://me@[::1]/a", "ftp://me@[::1]/a"),
        ("https://host/a/", "https://host/a"),
        ("file:///data/x/", "file:///data/x"),
        ("gcs://name", None),
    ],
)
def test_a_source_shows_its_address_as_it_was_given(given: str, shown: str | None) -> None:
    if shown is None:
        with pytest.raises(InputError, match=given):
            parse_source(given)
        return
    source = parse_source(given)
    assert source.url == shown
    assert source.url_of("b") == f"{shown}/b"
    assert parse_source(shown) == source


def test_the_address_does_not_change_what_tells_stores_apart() -> None:
    source = parse_source("ftp://host/a")
    assert source.identity == "ftp:///a host=host"
    assert source == parse_source("ftp://host/a/")
    assert source.identity != parse_source("ftp://other/a").identity


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:9000", "http://", "http://a b"])
def test_endpoint_that_is_none(url: str) -> None:
    with pytest.raises(InputError, match=r"give http:// or https:// and the server"):
        parse_source("name", endpoint_url=url)


def test_endpoint_with_credentials_is_refused() -> None:
    with pytest.raises(InputError, match="holds credentials") as caught:
        parse_source("name", endpoint_url="http://user:word@127.0.0.1")
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("option", ["endpoint_url", "profile", "region", "requester_pays"])
def test_an_option_that_a_file_system_has_not_is_an_error(option: str) -> None:
    with pytest.raises(InputError, match="memory:// has no option for"):
        parse_source("memory://x", **{option: "x"})


@pytest.mark.usefixtures("no_aws")
def test_the_endpoint_is_part_of_the_identity(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = parse_source("name")
    assert usual.identity == "s3://name"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one:9000/")
    one = parse_source("name")
    assert one.identity == "s3://name endpoint_url=http://one:9000"
    assert one.url == usual.url
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://two:9000")
    assert parse_source("name").option("endpoint_url") == "http://two:9000"
    assert parse_source("name", endpoint_url="http://x").option("endpoint_url") == "http://x"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert parse_source("name") == usual
    assert parse_source("name", anon=True, region="eu-west-1").identity == usual.identity


@pytest.mark.usefixtures("no_aws")
def test_the_endpoint_of_a_profile(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[profile plain]\nendpoint_url = http://plain\n"
        "[profile with]\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = http://with\n"
    )
    assert parse_source("name", profile="plain").option("endpoint_url") == "http://plain"
    assert parse_source("name", profile="with").option("endpoint_url") == "http://with"
    with pytest.raises(InputError, match=r"missing.*--aws-profile"):
        parse_source("name", profile="missing")
