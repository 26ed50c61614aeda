//! The common rule of record content (`interop/README.md`), for clients that are driven without a program of ours.

/// One record of a rule.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its key, null or bytes.
    pub key: Option<Vec<u8>>,
    /// Its value, null or bytes.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

const TEXT: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BIG: usize = 1 << 20;

struct Stream(u32);

impl Stream {
    fn new(seed: u32, i: u32) -> Self {
        let x = seed.wrapping_mul(2_654_435_761).wrapping_add(i.wrapping_mul(40_503)).wrapping_add(1);
        Self(x.max(1))
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
}

fn content(seed: u32, i: u32, text: bool, length: Option<usize>) -> Vec<u8> {
    let mut rng = Stream::new(seed, i);
    let size = 1 + rng.next() as usize % 400;
    let size = length.unwrap_or(size);
    let byte = |next: u32| if text { TEXT[(next >> 8) as usize & 63] } else { (next >> 8) as u8 };
    let block: Vec<u8> = (0..size.min(4096)).map(|_| byte(rng.next())).collect();
    block.into_iter().cycle().take(size).collect()
}

/// Record `i` of `rule`.
pub fn record(rule: &str, seed: u32, i: u32) -> Record {
    let key = Some(format!("k-{i}").into_bytes());
    match rule {
        "big" => Record { key, value: Some(content(seed, i, false, Some(BIG))), headers: Vec::new() },
        "nullhdr" => {
            let headers = vec![("h0".into(), None), ("h1".into(), Some(b"v".to_vec()))];
            Record { key, value: Some(content(seed, i, true, None)), headers }
        }
        "plain" => {
            let value = (i % 11 != 4).then(|| content(seed, i, true, None));
            Record { key: key.filter(|_| i % 7 != 3 || value.is_none()), value, headers: Vec::new() }
        }
        _ => mix(seed, i, key),
    }
}

fn mix(seed: u32, i: u32, key: Option<Vec<u8>>) -> Record {
    let value = match i % 11 {
        4 => None,
        8 => Some(Vec::new()),
        _ => Some(content(seed, i, false, None)),
    };
    let key = match i % 7 {
        3 if value.is_some() => None,
        5 => Some(Vec::new()),
        _ => key,
    };
    let mut headers = vec![
        ("h0".to_string(), Some(format!("v{i}").into_bytes())),
        ("h1".to_string(), Some(Vec::new())),
        ("h2".to_string(), Some(vec![0xff, 0xfe])),
    ];
    headers.truncate(i as usize % 4);
    Record { key, value, headers }
}

/// Appends a field of a record file: its length (-1 for null) and its bytes.
pub fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    let size = field.map_or(-1, |f| i32::try_from(f.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(field.unwrap_or_default());
}

/// Takes `N` bytes off the front of `data`.
pub fn take<const N: usize>(data: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = data.split_first_chunk()?;
    *data = rest;
    Some(*head)
}

/// Takes a field of a record file off the front of `data`; the outer none says that the file is cut short.
pub fn take_field<'a>(data: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let size = i32::from_be_bytes(take(data)?);
    let Ok(size) = usize::try_from(size) else { return Some(None) };
    let (field, rest) = data.split_at_checked(size)?;
    *data = rest;
    Some(Some(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_the_one_of_the_readme() {
        let first = record("mix", 7, 0);
        assert_eq!(first.key.as_deref(), Some(&b"k-0"[..]));
        assert_eq!(first.headers, []);
        assert_eq!(record("mix", 7, 3).key, None);
        assert_eq!(record("mix", 7, 5).key, Some(Vec::new()));
        assert_eq!(record("mix", 7, 4).value, None);
        assert_eq!(record("mix", 7, 8).value, Some(Vec::new()));
        let both_null = record("mix", 7, 59);
        assert_eq!((both_null.key.as_deref(), both_null.value), (Some(&b"k-59"[..]), None));
        assert_eq!(record("big", 7, 1).value.map(|v| v.len()), Some(BIG));
    }

    #[test]
    fn fields_read_back_and_a_cut_file_is_noticed() {
        let mut file = Vec::new();
        for field in [None, Some(&b""[..]), Some(b"abc")] {
            put_field(&mut file, field);
        }
        let mut rest = file.as_slice();
        assert_eq!(take_field(&mut rest), Some(None));
        assert_eq!(take_field(&mut rest), Some(Some(&b""[..])));
        assert_eq!(take_field(&mut rest), Some(Some(&b"abc"[..])));
        assert!(rest.is_empty());
        let mut cut = &file[..file.len() - 1];
        let fields: Vec<_> = std::iter::from_fn(|| take_field(&mut cut)).collect();
        assert_eq!(fields.len(), 2);
    }
}
