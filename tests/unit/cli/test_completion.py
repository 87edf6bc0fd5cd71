"""What a shell completes."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from daskmr.cli.entry import main


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("daskmr pl", "plain,plan\n"),
        ("daskmr run job.py -d da", "file,da\n"),
        ("daskmr run job.py -f fi", "file,fi\n"),
        ("daskmr plan job.py --work-dir x", "dir,x\n"),
        ("daskmr run job.py --cluster sl", "plain,slurm\n"),
        ("daskmr run job.py --cluster ./m", "file,./m\n"),
        ("daskmr check jo", "file,jo\n"),
        ("daskmr run --from o", "file,o\n"),
        ("daskmr run job.py --report r", "file,r\n"),
        ("daskmr replay out.bad.jsonl --script j", "file,j\n"),
        ("daskmr cache ls --schema s", "file,s\n"),
        ("daskmr plan job.py --quie", ""),
    ],
)
def test_completion(words: str, offered: str) -> None:
    variables = {
        "_DASKMR_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = CliRunner().invoke(main, [], prog_name="daskmr", env=variables)
    assert done.output.lstrip("\n") == offered
