from __future__ import annotations

import pytest

from agent_service.tools.html_text import read_html


def text_of(page: str) -> str:
    return read_html(page, max_characters=10_000)[1]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>One\n two</p><p>Three</p>", "One two\n\nThree"),
        ("<h1>Hours</h1><h3>Winter</h3>till six", "# Hours\n\n### Winter\n\ntill six"),
        ("a<br>b", "a\nb"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<table><tr><th>Day<th>Hour<tr><td>Monday<td>9</table>", "Day | Hour\nMonday | 9"),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ("x<script>bad()</script><style>p{}</style><noscript>no</noscript><template>t</template>y", "xy"),
        ("<p hidden>a</p><p style='DISPLAY : none'>b</p><p aria-hidden=true>c</p>d", "d"),
        ("<!-- not seen --><p>seen</p>", "seen"),
        ("&lt;b&gt; &amp; &uuml; &#x1F600;", "<b> & ü 😀"),
        ("<body><input hidden>after", "after"),
        ("<p>never closed <b>bold", "never closed bold"),
        ("no tags at all", "no tags at all"),
        ("a\x00b", "a\ufffdb"),
        ("<svg><title>picture</title></svg><p>x", "x"),
        ("", ""),
        ("<html></html>", ""),
    ],
)
def test_shows_what_a_reader_sees(page: str, text: str) -> None:
    assert text_of(page) == text


def test_finds_the_title() -> None:
    title, text, is_cut = read_html("<title>The\n harbour</title><title>b</title><p>x", max_characters=100)
    assert (title, text, is_cut) == ("The harbour", "x", False)


def test_says_when_it_is_the_beginning_alone() -> None:
    assert read_html("<p>" + "word " * 100, max_characters=50)[1:] == ("word " * 10, True)
    assert read_html("<div>" * 50_000 + "deep", max_characters=50)[2]
    assert read_html("<p>" * 200_000 + "late", max_characters=50)[2]


def test_reads_in_no_entity_and_no_file() -> None:
    page = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd"><!ENTITY b "&a;&a;">]><p>&a;&b;</p>'
    assert "root:" not in text_of(page)
