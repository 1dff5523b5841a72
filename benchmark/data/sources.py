"""Where the files of a benchmark come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One file to download.

    Attributes:
        url: http or https.
        to: folder below the data root where the archive is unpacked, or a plain file is put.
        inside: folder within the archive whose content is taken, `*` for one component of any
            name; empty = everything.
        checksum: `sha256:<hex>`, or `md5:<hex>` where the origin publishes only that; empty =
            not known.
        bytes: roughly, for the forecast; 0 = not known.
    """

    url: str
    to: str
    inside: str = ""
    checksum: str = ""
    bytes: int = 0
