"""WAV files by hand."""

import struct

RATE = 8000


def riff(data, bits=16, channels=1, rate=RATE, code=1, frame=None, more=b'', extensible=False):
    """A WAV file by hand; ``more`` stands between its two chunks."""
    frame = channels * bits // 8 if frame is None else frame
    layout = struct.pack(
        '<HHIIHH', 0xFFFE if extensible else code, channels, rate, rate * frame, frame, bits
    )
    if extensible:
        layout += struct.pack('<HHIH', 22, bits, 0, code) + b'\0' * 14
    chunks = b'fmt ' + struct.pack('<I', len(layout)) + layout + more
    chunks += b'data' + struct.pack('<I', len(data)) + data
    return b'RIFF' + struct.pack('<I', 4 + len(chunks)) + b'WAVE' + chunks
