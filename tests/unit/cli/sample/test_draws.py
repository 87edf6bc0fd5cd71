"""Random numbers are the same for the same seed."""

from __future__ import annotations

from itertools import islice

from daskmr.cli.sample.draws import below, hexadecimal, log_uniform, pick, random_words


def test_words_depend_on_the_seed_and_the_purpose() -> None:
    def first(seed: int, purpose: str) -> list[int]:
        return list(islice(random_words(seed, purpose), 5000))

    assert first(0, "plan") == first(0, "plan")
    assert first(0, "plan") != first(1, "plan")
    assert first(0, "plan") != first(0, "pieces")
    assert all(0 <= word < 2**32 for word in first(0, "plan"))


def test_draws_are_within_their_bounds() -> None:
    words = random_words(0, "test")
    assert {below(words, 3) for _ in range(100)} == {0, 1, 2}
    assert {pick(words, "ab") for _ in range(100)} == {"a", "b"}
    lengths = {log_uniform(words, 4).bit_length() for _ in range(1000)}
    assert lengths == {0, 1, 2, 3, 4}
    digits = hexadecimal(words, 11)
    assert len(digits) == 11
    assert int(digits, 16) >= 0
