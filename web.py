"""Downloads over http and https."""

import urllib.request

from utils import UserError


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, and from https to https only."""

    def redirect_request(self, request, response, code, message, headers, url):
        kinds = ("https://",) if request.full_url.startswith("https://") else ("http://", "https://")
        if not url.lower().startswith(kinds):
            raise UserError(f"the server redirects to {url!r}, expected {' or '.join(kinds)}…")
        return super().redirect_request(request, response, code, message, headers, url)


def open_url(url, timeout, headers=None):
    """The response of a web server; certificates are verified. timeout: seconds without an answer.

    Raises UserError for other URLs, and for redirects that leave https or lead to other schemes, else what
    urlopen raises.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise UserError(f"{url}: expected http://… or https://…")
    opener = urllib.request.build_opener(_Redirects)
    return opener.open(urllib.request.Request(url, headers=headers or {}), timeout=timeout)
