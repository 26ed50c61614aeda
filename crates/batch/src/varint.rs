//! Zigzag varints, the integers inside a records section.

use bytes::{Buf, Bytes};

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that [`put`] appends.
pub(crate) fn size(value: i64) -> usize {
    let bits = 64 - (((value << 1) ^ (value >> 63)) as u64 | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Takes a varint of at most ten bytes off the front.
pub(crate) fn take_i64(bytes: &mut Bytes) -> Option<i64> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            bytes.advance(i + 1);
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// As [`take_i64`], of a number that fits in 32 bits.
pub(crate) fn take_i32(bytes: &mut Bytes) -> Option<i32> {
    i32::try_from(take_i64(bytes)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_size() {
        for value in
            [0, -1, 1, 63, -64, 64, -65, 300, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN]
        {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), size(value), "{value}");
            let mut bytes = Bytes::from(out);
            assert_eq!(take_i64(&mut bytes), Some(value));
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn endless_and_torn_varints_are_refused() {
        assert_eq!(take_i64(&mut Bytes::from_static(&[0xff; 11])), None);
        assert_eq!(take_i64(&mut Bytes::from_static(&[0x80])), None);
        assert_eq!(take_i32(&mut Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x7f])), None);
    }
}
