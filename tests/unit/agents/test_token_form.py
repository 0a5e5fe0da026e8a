"""The form of API tokens."""

from agents.tokens import checksum, new_secret, well_formed


def test_a_new_token_is_well_formed_and_unlike_any_other():
    made = {new_secret() for _ in range(200)}
    assert len(made) == 200
    assert all(well_formed(secret) and secret.startswith("cs_") and len(secret) == 52 for secret in made)


def test_one_wrong_character_is_noticed_by_the_checksum():
    secret = new_secret()
    for place in range(3, len(secret)):
        other = "A" if secret[place] != "A" else "B"
        assert not well_formed(secret[:place] + other + secret[place + 1 :])


def test_what_is_no_token_is_not_taken_for_one():
    secret = new_secret()
    for wrong in ("", "cs_", secret[:-1], secret + "0", secret.upper(), f" {secret}", f"{secret}\n", "cs_" + "é" * 49):
        assert not well_formed(wrong)


def test_the_checksum_is_crc32_in_base62():
    assert checksum("") == "000000"
    assert checksum("cs_") == checksum("cs_")
    assert len(checksum("x" * 46)) == 6
