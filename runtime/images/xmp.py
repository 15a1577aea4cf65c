"""XMP packets: carried as they are but for what the change makes untrue."""

from __future__ import annotations

import re
from xml.sax.saxutils import quoteattr

# What a gain map's or a depth map's directory says is untrue once they are gone.
_CONTAINERS = (b"Container:Directory", b"hdrgm:", b"GDepth:", b"GImage:")

_NAMESPACE = "https://hscaunet.invalid/ns/1.0/"


def settle(xmp: bytes, width: int, height: int) -> bytes | None:
    """XMP of a picture that is upright and sRGB now, of this size; None if it is of lost pictures.

    Numbers of orientation, size and colour space are patched, wherever they stand as an attribute
    or an element; all else stays byte for byte.
    """
    xmp = _as_utf8(xmp)
    if any(word in xmp for word in _CONTAINERS):
        return None
    values = {
        b"tiff:Orientation": 1,
        b"tiff:ImageWidth": width,
        b"tiff:ImageLength": height,
        b"exif:PixelXDimension": width,
        b"exif:PixelYDimension": height,
        b"exif:ColorSpace": 1,
    }
    xmp = re.sub(rb'(photoshop:ICCProfile=")[^"]*(")', rb"\g<1>sRGB IEC61966-2.1\g<2>", xmp)
    for name, value in values.items():
        number = b"%d" % value
        xmp = re.sub(rb'(%s\s*=\s*["\'])\s*\d+\s*(["\'])' % name, rb"\g<1>%s\g<2>" % number, xmp)
        xmp = re.sub(rb"(<%s>)\s*\d+\s*(</)" % name, rb"\g<1>%s\g<2>" % number, xmp)
    return xmp


def _as_utf8(xmp: bytes) -> bytes:
    """A packet of UTF-16, which a TIFF may hold, as UTF-8; any other as it is."""
    order = {b"\xfe\xff": "utf-16", b"\xff\xfe": "utf-16", b"\0<": "utf-16-be", b"<\0": "utf-16-le"}
    coding = order.get(xmp[:2])
    try:
        text = "" if coding is None else xmp.decode(coding)
    except UnicodeDecodeError:
        return xmp
    return text.lstrip("\ufeff").encode() or xmp


def with_provenance(xmp: bytes | None, facts: dict[str, str]) -> bytes | None:
    """XMP with a description of how the colours were made.

    Parameters
    ----------
    xmp : bytes or None
        A packet to add to.
    facts : dict of str to str
        Such as ``Model``; names are those of XML attributes.

    Returns
    -------
    bytes or None
        None if the packet is none that can be added to.
    """
    attributes = "".join(f"\n    hscaunet:{k}={quoteattr(v)}" for k, v in facts.items())
    ours = (f'<rdf:Description rdf:about="" xmlns:hscaunet="{_NAMESPACE}"{attributes}/>\n').encode()
    if xmp is not None:
        at = xmp.rfind(b"</rdf:RDF>")
        return xmp[:at] + ours + xmp[at:] if at >= 0 else None
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        + ours
        + b'</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>'
    )
