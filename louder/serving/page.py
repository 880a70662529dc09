"""The files of the page at /."""

from importlib import resources

from fastapi.responses import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def page_responses(*, images: bool) -> dict[str, Response]:
    """path -> its file, read once: a name that is not among them is not looked for anywhere. `images`: whether items have
    pictures, which other servers give."""
    policy = POLICY.replace("data:", "data: https:") if images else POLICY
    headers, found = {"content-security-policy": policy, **HEADERS}, {}
    for file in sorted(resources.files("louder.serving").joinpath("ui").iterdir(), key=lambda file: file.name):
        ending = file.name.rpartition(".")[2]
        if ending in TYPES:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            found[path] = Response(file.read_bytes(), headers=headers, media_type=TYPES[ending])
    return found
