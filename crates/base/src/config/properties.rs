//! The syntax of `server.properties`: Java's properties format, with the line of every setting, so that a
//! refusal can name it. Comments (`#`, `!`), `=`, `:` or blanks between key and value, continuation lines,
//! `\uXXXX` and the other escapes. Bytes that are not UTF-8 are read as Latin-1, as Java does.

/// Largest file that is read.
pub const FILE_BYTES: usize = 1 << 20;

/// One setting of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Line on which it begins, from 1.
    pub line: usize,
    /// Key, unescaped.
    pub key: String,
    /// Value, unescaped.
    pub value: String,
}

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProperties {
    /// `\u` without four hexadecimal digits behind it.
    #[error("line {line}: \\u needs four hexadecimal digits; write a backslash of a path as two")]
    Escape {
        /// Line of the setting.
        line: usize,
    },
    /// More than [`FILE_BYTES`].
    #[error("the file has {0} bytes; no configuration has more than {FILE_BYTES}")]
    TooLong(usize),
}

/// Reads all settings, in the order of the file; a key may come more than once.
pub fn parse(bytes: &[u8]) -> Result<Vec<Property>, BadProperties> {
    if bytes.len() > FILE_BYTES {
        return Err(BadProperties::TooLong(bytes.len()));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    };
    logical_lines(&text).into_iter().map(|(line, text)| property(line, &text)).collect()
}

/// Lines without comments and blank ones, continuations joined, each with the number of its first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let unix = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, natural) in unix.split('\n').enumerate() {
        let body = natural.trim_start_matches(is_blank);
        let (number, mut logical) = match open.take() {
            Some(begun) => begun,
            None if body.is_empty() || body.starts_with(['#', '!']) => continue,
            None => (at + 1, String::new()),
        };
        let backslashes = body.bytes().rev().take_while(|&b| b == b'\\').count();
        if backslashes % 2 == 1 {
            logical.push_str(&body[..body.len() - 1]);
            open = Some((number, logical));
        } else {
            logical.push_str(body);
            lines.push((number, logical));
        }
    }
    lines.extend(open);
    lines
}

fn property(line: usize, text: &str) -> Result<Property, BadProperties> {
    let key_end = key_end(text);
    let (key, rest) = text.split_at(key_end);
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    let rest = rest.trim_start_matches(is_blank);
    Ok(Property { line, key: unescape(line, key)?, value: unescape(line, rest)? })
}

fn key_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '=' | ':' => return at,
            c if is_blank(c) => return at,
            _ => {}
        }
    }
    text.len()
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn unescape(line: usize, text: &str) -> Result<String, BadProperties> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut buffer = [0; 2];
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                    let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| hex);
                    units.push(unit.ok_or(BadProperties::Escape { line })?);
                    continue;
                }
                Some(other) => other,
                None => continue,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut buffer));
    }
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(usize, String, String)> {
        parse(text.as_bytes()).unwrap().into_iter().map(|p| (p.line, p.key, p.value)).collect()
    }

    #[test]
    fn the_format_is_javas() {
        let text = "# comment\n! other\n\n a = b \nc:d\ne f\ng\n  h\\=1 = 2\nlong = one,\\\n   two,\\\n   three\n\
                    path=C\\:\\\\x\nuni=\\u00e9\\uD83D\\uDE00\ntail=x\\";
        let expected = [
            (4, "a", "b "),
            (5, "c", "d"),
            (6, "e", "f"),
            (7, "g", ""),
            (8, "h=1", "2"),
            (9, "long", "one,two,three"),
            (12, "path", "C:\\x"),
            (13, "uni", "\u{e9}\u{1f600}"),
            (14, "tail", "x"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(l, k, v)| (*l, (*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(read(text), expected);
    }

    #[test]
    fn line_ends_and_marks_of_other_systems_are_understood() {
        assert_eq!(read("\u{feff}a=1\r\nb=2\rc=3"), read("a=1\nb=2\nc=3"));
        assert_eq!(parse(b"a=\xe9").unwrap()[0].value, "\u{e9}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert_eq!(parse(b"a=1\npath=C:\\users"), Err(BadProperties::Escape { line: 2 }));
        assert_eq!(parse(&vec![b'a'; FILE_BYTES + 1]), Err(BadProperties::TooLong(FILE_BYTES + 1)));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(properties) = parse(&bytes) {
                prop_assert!(properties.iter().all(|p| p.line >= 1));
            }
        }

        #[test]
        fn what_is_escaped_reads_back(key in "[ -~]{1,20}", value in "\\PC{0,40}") {
            let escape = |text: &str| -> String {
                let unit = |u: u16| format!("\\u{u:04x}");
                text.encode_utf16().map(unit).collect()
            };
            let line = format!("\n{}={}\n", escape(&key), escape(&value));
            prop_assert_eq!(parse(line.as_bytes()).unwrap(), vec![Property { line: 2, key, value }]);
        }
    }
}
