from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts._latex import _COMMAND
from tts.answers import ExactReader, MathAnswerReader, split_thinking

READER = MathAnswerReader()
FRAGMENTS = [
    *re.findall(
        r"\S+",
        r"\frac \sqrt { } ( ) [ ] \{ \} \text \pm \begin{pmatrix} \end{pmatrix} \\ & ^ _ \circ - + * / = < \cup \in"
        r" x pq pi e inf and or 1 12 345 0.5 .5 1e5 1e999999999 , ; . ! % $ \left \right \left. \boxed cm \, \! $$"
        r" 9^9 {,} ** no No Even answer \frac{1}{2} x=",
    ),
    *("5 cm", "per hour", "1 000", "(A) ", " "),
]
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


def is_balanced(text: str) -> bool:
    depth = 0
    for character in _COMMAND.sub("", text):
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0 and "\\" not in _COMMAND.sub("", text)


SAME = [
    (
        r"\frac{14}{3}",
        "14/3",
        r"\dfrac{14}{3}",
        r"\tfrac{14}3",
        r"\frac {28} 6",
        r"$\frac{14}{3}$",
        r"4\frac{2}{3}",
        "4 2/3",
    ),
    ("0.5", ".5", "1/2", r"\frac12", r"\frac{-1}{-2}", "5e-1", r"5\times 10^{-1}", "0.50", "+0.5", r"x = \frac 12."),
    ("-3", "−3", r"\frac{-6}{2}", r"-\frac{6}{2}", "x=-3", "-3.0", r"\boxed{-3}", r"f(x)=-3", "**-3**", "(-3)"),
    ("1234567", "1,234,567", r"1,\!234,\!567", "1{,}234{,}567", r"1\,234\,567", "1 234 567", r"\$1,234,567.00"),
    (
        "90",
        r"90^\circ",
        r"90^{\circ}",
        "90°",
        "90 degrees",
        r"90\text{ degrees}",
        r"90\%",
        "90%",
        "90 percent",
        r"\boxed{90^\circ}",
    ),
    ("15", r"15\mbox{ cm}^2", "15 cm^2", r"15\,\mathrm{cm}^{2}", "15 square units", "15 miles per hour", "$15"),
    (r"(3,\frac{\pi}{2})", r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)", r"(3; \frac{1}{2}\pi)", r"(r,t)=(3, π/2)"),
    (r"\{1,2\}", "1, 2", "2,1", r"1 \text{ and } 2", "x=2 or x=1", r"\left\{2,1\right\}", r"x \in \{1,2\}", "{1,2}"),
    (r"1\pm\sqrt5", r"1+\sqrt{5}, 1-\sqrt{5}", r"x = 1 - \sqrt 5, 1 + \sqrt 5"),
    (
        r"(-\infty,2)\cup(3,\infty)",
        r"(3,+\infty) \cup (-\infty, 2)",
        r"\left(-\infty,2\right)\cup\left(3,\infty\right)",
    ),
    ("p-q", "p - q", "-q+p", "-(q-p)", r"\boxed{p-q}"),
    ("pq", r"p \cdot q", r"q \, p", "p*q", r"p\times q"),
    (r"\sqrt2", r"\sqrt{2}", "√2", "sqrt(2)", r"\frac{2}{\sqrt2}", "2^{1}/\\sqrt{2}"),
    (r"2\sqrt3", r"\sqrt{12}", r"\frac{6}{\sqrt 3}", r"2 \sqrt{3}"),
    (r"\frac{x+2}{7}", r"\frac{x}{7}+\frac27", "(2+x)/7"),
    ("2(x+1)(y+1)", "(2x+2)(y+1)", "(1+y)(x+1)*2"),
    ("C", "(C)", r"\text{C}", r"\text{(C)}", r"\textbf{(C)}", "C.", "(C) Paris"),
    ("even", "Even", r"\text{even}", r"\text{Even}", r"\textbf{ even }."),
    (r"\begin{pmatrix} 1/2 \\ 3 \end{pmatrix}", r"\begin{bmatrix}\frac12\\3\\\end{bmatrix}"),
    (r"x \geq 5", "x>=5", "x ≥ 5", r"x \ge 5"),
    ("52_8", "52_{8}"),
    (r"\infty", "infinity", "∞", r"+\infty"),
    (r"\emptyset", r"\{\}", r"\varnothing", "∅"),
    ("a=1, b=2", "b=2, a=1"),
]
DIFFERENT = [
    ("1/2004!", "1/2006!"),
    ("2^99", "2^98", r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    ("2^{99999}", "2^{99998}", "9**9**9", "9**9**8"),
    ("(1,2)", "[1,2]", "(1,2]", "[1,2)", "(2,1)", "1,2", "(1,2,2)"),
    ("0.333", "1/3", "0.3333333333333333"),
    ("1234", "(1,234)", "1,234,5"),
    ("a=1, b=2", "a=2, b=1"),
    ("0.1", "10%"),
    ("5", r"5 \text{ million}", "5!", "5i", "-5", r"\{5\}"),
    ("1e999999999", "1e999999998"),
    ("52_8", "52", "52_9"),
    ("f(x)", "fx", "f(y)"),
    ("listen", "silent", "xyz", "zyx"),
    (r"2\sin b\cos a", r"2\sin a\cos b"),
    ("1/2x", "1/(2x)"),
    ("x<5", "x>5", r"x\le 5", "5"),
    ("1000,99", "1000.99"),
    ("A", "B", "a"),
    (r"\sqrt{2}", "2", r"\sqrt{3}", r"\sqrt[3]{2}"),
    (r"\begin{vmatrix}1&2\end{vmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}2&1\end{pmatrix}"),
    (r"\frac{1}{0}", r"\frac{2}{0}", "0"),
    ("e^{x}", "e^{2x}", "(e^x)^2+1"),
]


@pytest.mark.parametrize("spellings", SAME, ids=lambda spellings: spellings[0])
def test_spellings_of_one_answer_share_a_key(spellings: tuple[str, ...]) -> None:
    assert READER.key(spellings[0]) is not None
    assert {READER.key(spelling) for spelling in spellings} == {READER.key(spellings[0])}


@pytest.mark.parametrize("answers", DIFFERENT, ids=lambda answers: answers[0])
def test_different_answers_have_different_keys(answers: tuple[str, ...]) -> None:
    assert len({READER.key(answer) for answer in answers} - {None}) == len(answers)


@pytest.mark.parametrize("text", ["", " ", "$$", "...", "{}", r"\text{}", "?", "Answer", r"\ldots", "( )", "x" * 5000])
def test_what_says_nothing_does_not_vote(text: str) -> None:
    assert READER.key(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{1} or rather \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left\{1,2\right\}}", r"\left\{1,2\right\}"),
        (r"\boxed{\{1\}", None),
        (r"\boxed{ (x] \} }", r"(x] \}"),
        (r"\fbox{7}", "7"),
        (r"\boxed {8}", "8"),
        (r"$\boxed 5$ is it", "5"),
        (r"\boxed5", "5"),
        (r"\boxed{3} and then \boxed{", None),
        (r"\boxed{3} and then \boxed{\frac{1}{2}", None),
        (r"answer is 3, so \boxed{}", None),
        (r"\boxedness is 3", None),
        ("She pays 3 + 4 = 7.\n#### 7", "7"),
        ("#### $1,200\n", "$1,200"),
        ("#### Step 4\nthen", None),
        ("The answer is 3.5. I hope it is correct.", "3.5"),
        ("Final Answer: The final answer is $10,455$. I hope it is correct.", "10,455"),
        (r"The answer is: \(\frac12\).", r"\frac12"),
        ("**Final Answer**\n\n**42**", "42"),
        ("**Answer:** (B)", "(B)"),
        ("The answer is even.", "even"),
        ("The answer is $$\n5\n$$", "5"),
        ("The answer is 5. Check: the answer is as we would expect.", "5"),
        ("the answer is 3\n#### 4", "4"),
        ("#### 4\nno, the answer is 5", "5"),
        ("We get 17 and 18", None),
        ("the answer is", None),
        ("", None),
    ],
)
def test_extract(text: str, answer: str | None) -> None:
    assert READER.extract(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"), [("17 and then -18.5!", "-18.5"), ("1,234 apples", "1,234"), ("none", None)]
)
def test_last_number_only_where_asked(text: str, answer: str | None) -> None:
    assert MathAnswerReader(last_number=True).extract(text) == answer
    assert READER.extract(text) is None


@pytest.mark.parametrize(
    ("text", "inside", "parted"),
    [
        ("5", False, ("", "5")),
        ("<think>a</think>b", False, ("a", "b")),
        ("a</think>b", False, ("a", "b")),
        ("a</think>b", True, ("a", "b")),
        ("<think>a", False, ("a", "")),
        ("a", True, ("a", "")),
        ("Well. <think>a", False, ("Well. a", "")),
        ("<think>a</think>b<think>c</think>d", False, ("ac", "bd")),
        ("<think>a</think>b<think>c", False, ("bac", "")),
        ("<think>a</think>b</think>c", False, ("ab", "c")),
    ],
)
def test_split_thinking(text: str, inside: bool, parted: tuple[str, str]) -> None:
    assert split_thinking(text, inside=inside) == parted


def test_split_thinking_takes_other_marks() -> None:
    assert split_thinking("[t]a[/t]b", "[t]", "[/t]") == ("a", "b")


def test_exact_reader_compares_the_whole_text() -> None:
    reader = ExactReader()
    assert reader.extract(" a b\n") == "a b" == reader.key("a b ")
    assert reader.extract(" \n") is None is reader.key("")
    assert reader.key("1/2") != reader.key("0.5")


@given(TEXTS)
def test_a_key_is_its_own_key(text: str) -> None:
    key = READER.key(text)
    assert key is None or READER.key(key) == key


@given(TEXTS, st.booleans())
def test_no_text_raises(text: str, last_number: bool) -> None:
    thinking, visible = split_thinking(text)
    assert len(thinking) + len(visible) <= len(text)
    answer = MathAnswerReader(last_number=last_number).extract(visible)
    assert answer is None or answer.strip() == answer != ""


@given(TEXTS.filter(is_balanced).filter(lambda text: "box" not in text))
def test_a_box_changes_no_key(text: str) -> None:
    answer = READER.extract(r"so \boxed{" + text + "}, which")
    assert (None if answer is None else READER.key(answer)) == READER.key(text)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6), st.integers(1, 50))
def test_fractions_agree_with_their_multiples(numerator: int, denominator: int, factor: int) -> None:
    keys = {
        READER.key(rf"\frac{{{numerator}}}{{{denominator}}}"),
        READER.key(f"{numerator * factor}/{denominator * factor}"),
        READER.key(f"{numerator}/{denominator}"),
    }
    assert len(keys) == 1


@given(st.integers(-(10**9), 10**9), st.integers(0, 8))
def test_decimals_agree_with_fractions(digits: int, places: int) -> None:
    sign, text = "-" if digits < 0 else "", str(abs(digits)).rjust(places + 1, "0")
    decimal = sign + (f"{text[:-places]}.{text[-places:]}" if places else text)
    assert READER.key(decimal) == READER.key(f"{digits}/{10**places}")


@given(st.integers(), st.integers())
def test_integers_are_one_only_if_equal(left: int, right: int) -> None:
    assert (READER.key(f"{left:,}") == READER.key(str(right))) == (left == right)


@given(st.permutations(["3", "x", r"-\frac{y}{2}", r"\sqrt{5}", "2z^2"]))
def test_the_order_of_a_sum_is_no_part_of_it(terms: list[str]) -> None:
    assert READER.key("+".join(f"({term})" for term in terms)) == READER.key(r"3+x-y/2+\sqrt5+2z^2")


@pytest.mark.parametrize(
    "unit",
    [
        *"{}(9- ",
        "\\boxed{",
        "\\boxed{{}",
        "the answer is $",
        "the answer is \\(",
        "####\n",
        "9,999",
        "<think>",
        "a</think>",
    ],
)
def test_time_is_bounded_on_megabytes(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    start = time.perf_counter()
    split_thinking(text)
    MathAnswerReader(last_number=True).extract(text)
    READER.key(text)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "unit",
    [
        "(",
        "{",
        "\\frac{",
        "9^{999}*",
        "9^",
        "1+",
        "(x+1)",
        "(1+",
        "\\pm1,",
        "\\text{",
        "1 111 ",
        "x=",
        "cm ",
        "\\sqrt{",
    ],
)
def test_time_is_bounded_on_the_longest_answers(unit: str) -> None:
    start = time.perf_counter()
    READER.key((unit * 4000)[:4000])
    READER.key((unit * 4000)[:2000] + ")}" * 1000)
    assert time.perf_counter() - start < 5
