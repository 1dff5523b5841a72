"""The text of a report's page, with what it holds compressed."""

import base64
import re
import zlib

PACKED = re.compile(r'(<script type="text/plain" id="payload">)(.*?)(?=</script>)', re.DOTALL)


def unpacked(html: str) -> str:
    """The page with its data in plain; the library that draws stays packed."""
    text, count = PACKED.subn(lambda found: found[1] + unpack(found[2]), html)
    assert count == 1, "the page has no data"
    return text


def unpack(packed: str) -> str:
    """What `benchmark.reporting.html.payload.packed` made of a text."""
    return zlib.decompress(base64.b64decode(packed, validate=True)).decode("utf-8")
