"""Pickling by value: what comes back does the same, and says which file it is from."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types

from daskmr.job.pickling import dumps


def made(source, filename):
    namespace = {"__name__": "__main__"}
    exec(compile(source, filename, "exec"), namespace)
    return namespace


def codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def test_code_keeps_the_names_of_its_files():
    source = "def outer(x):\n    def inner(y):\n        return x + y\n    return inner\n"
    function = made(source, "cell one")["outer"]
    again = pickle.loads(dumps(function))
    assert again(2)(3) == 5
    assert {code.co_filename for code in codes(again.__code__)} == {"cell one"}
    assert len(list(codes(again.__code__))) == 2


def test_each_function_keeps_its_own():
    helper = made("def add(x):\n    return x + 1\n", "cell one")["add"]
    namespace = made("def twice(x):\n    return add(add(x))\n", "cell two")
    namespace["add"] = helper
    again = pickle.loads(dumps(namespace["twice"]))
    assert again(0) == 2
    assert again.__code__.co_filename == "cell two"
    assert again.__globals__["add"].__code__.co_filename == "cell one"


def test_a_class_of_main_in_another_process(tmp_path):
    script = (
        "import sys\nfrom daskmr.job.pickling import dumps\n"
        "class Point:\n    def __init__(self, x):\n        self.x = x\n"
        "    def double(self):\n        return 2 * self.x\n"
        "open(sys.argv[1], 'wb').write(dumps(Point(21)))\n"
    )
    (tmp_path / "main.py").write_text(script)
    subprocess.run([sys.executable, tmp_path / "main.py", tmp_path / "blob"], check=True)
    point = pickle.loads((tmp_path / "blob").read_bytes())
    assert point.double() == 42
    assert type(point).double.__code__.co_filename == str(tmp_path / "main.py")
