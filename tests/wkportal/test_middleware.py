"""Pages are compressed for browsers that can read it, and nothing else is."""

import gzip

from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from tests.support.factories import make_account
from wkportal.middleware import CompressPages

ASKS = {"Accept-Encoding": "gzip, deflate, br"}
EVENTS = [b"event: ping\ndata: {}\n\n"] * 40


def compressed(response):
    request = RequestFactory().get("/", headers=ASKS)
    return CompressPages(lambda _request: response)(request)


def test_a_page_is_compressed_and_says_so_to_caches(people):
    for n in range(20):
        make_account(label=f"Account {n}", team=people.east)
    answer = people.operator.client.get("/accounts/", headers=ASKS)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert b"Account 19" in gzip.decompress(answer.content)
    assert len(answer.content) * 4 < len(gzip.decompress(answer.content))
    assert "Content-Encoding" not in people.operator.client.get("/accounts/").headers


def test_the_same_page_never_has_the_same_size_twice_in_a_row():
    page = b"<p>the same words</p>" * 50
    assert len({len(compressed(HttpResponse(page)).content) for _n in range(30)}) > 1


def test_events_and_pictures_stay_as_they_are():
    stream = compressed(StreamingHttpResponse(iter(EVENTS), content_type="text/event-stream"))
    assert not stream.has_header("Content-Encoding")
    assert list(stream.streaming_content) == EVENTS
    picture = compressed(HttpResponse(b"\x89PNG" * 200, content_type="image/png"))
    assert not picture.has_header("Content-Encoding")
