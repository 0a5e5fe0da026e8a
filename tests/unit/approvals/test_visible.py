import pytest

from approvals.visible import pieces, strangers, visible, visible_line


@pytest.mark.parametrize(
    ("hidden", "mark"),
    [
        ("\u202e", "⟦U+202E⟧"),  # right-to-left override
        ("\u2066", "⟦U+2066⟧"),
        ("\u200b", "⟦U+200B⟧"),  # zero width space
        ("\u00ad", "⟦U+00AD⟧"),  # soft hyphen
        ("\ufeff", "⟦U+FEFF⟧"),
        ("\x1b", "⟦U+001B⟧"),
        ("\r", "⟦U+000D⟧"),
        ("\x08", "⟦U+0008⟧"),
        ("\x7f", "⟦U+007F⟧"),
        ("\x9b", "⟦U+009B⟧"),
        ("\u00a0", "⟦U+00A0⟧"),  # looks like a space
        ("\u2028", "⟦U+2028⟧"),
        ("\u3164", "⟦U+3164⟧"),  # Hangul filler
        ("\u2800", "⟦U+2800⟧"),  # blank braille
        ("\ufe0f", "⟦U+FE0F⟧"),  # variation selector
        ("\U000e0041", "⟦U+E0041⟧"),  # tag letter
        ("\ue000", "⟦U+E000⟧"),  # private use
    ],
)
def test_hidden_characters_become_marks(hidden, mark):
    assert visible(f"rm{hidden}x") == f"rm{mark}x"


def test_ordinary_text_of_any_script_stays():
    text = "git push\torigin\n\u0437\u0434\u0440 שלום 你好 é 👍"
    assert visible(text) == text


def test_pieces_are_complete_and_in_order():
    text = "a\u202eb\u200b\u200bc\n"
    assert "".join(piece.text for piece in pieces(text)) == text
    assert [piece.mark for piece in pieces(text) if piece.mark] == ["⟦U+202E⟧", "⟦U+200B⟧", "⟦U+200B⟧"]
    assert "RIGHT-TO-LEFT OVERRIDE" in [piece.name for piece in pieces(text)]


def test_letters_that_look_like_others_are_named():
    assert strangers("git push p\u0430ypal p\u0430") == ["\u0430 CYRILLIC SMALL LETTER A"]


def test_a_line_is_one_line_and_bounded():
    assert visible_line("a\nb\u2028c " * 50, 20).count("\n") == 0
    assert len(visible_line("word " * 50, 20)) == 20
