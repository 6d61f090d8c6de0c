const KEY = Buffer.from('"version":');

/**
 * Reads the version out of an encoded update without decoding it. Updates of one server look alike, so the place
 * where it was found last is tried first; a text that is not an update gives -1.
 */
export function versionReader() {
  let offset = -1;
  return (buf, start, end) => {
    if (offset < 0 || !isAt(buf, start + offset, end)) {
      const found = buf.indexOf(KEY, start);
      if (found < 0 || found >= end) return -1;
      offset = found - start;
    }
    let at = start + offset + KEY.length;
    let version = 0;
    for (let digit = buf[at] - 48; digit >= 0 && digit <= 9 && at < end; digit = buf[at] - 48) {
      version = version * 10 + digit;
      at += 1;
    }
    return version;
  };
}

function isAt(buf, at, end) {
  if (at + KEY.length >= end) return false;
  for (let i = 0; i < KEY.length; i += 1) if (buf[at + i] !== KEY[i]) return false;
  return true;
}
