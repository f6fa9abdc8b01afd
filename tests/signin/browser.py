"""The user's browser and fingers, at the authorization server's pages."""

import asyncio
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser


class Form(HTMLParser):
    """The hidden fields of a page's only form."""

    def __init__(self, text):
        super().__init__()
        self.fields = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "input" and found.get("type") == "hidden":
            self.fields[found["name"]] = found["value"]


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(NoRedirect)


def submit(url, user, answer):
    with OPENER.open(url, timeout=30) as page:
        fields = Form(page.read().decode()).fields
    body = urllib.parse.urlencode({**fields, "username": user, "answer": answer}).encode()
    try:
        with OPENER.open(url.split("?")[0], body, timeout=30):
            return None
    except urllib.error.HTTPError as response:
        if response.status != 303:
            raise
        return response.headers["Location"]


async def answer(url, user, allow=True):
    """Opens the page, says who it is, and allows or denies; where it leads to."""
    return await asyncio.to_thread(submit, url, user, "allow" if allow else "deny")
