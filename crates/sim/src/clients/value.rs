//! What records of a run look like: the value tells which record it is, and every byte of it follows from that, so that a reader
//! can say whether it is whole.

use moldau_check::{Client, Record};

const IDENTITY_BYTES: usize = 12;

/// A number that follows from the record.
fn scramble(record: Record, salt: u64) -> u64 {
    let producer = u64::from(record.producer.0).rotate_left(40);
    let mut x = producer ^ record.number ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The value of a record: mostly some tens of bytes, rarely some thousands.
pub fn value(record: Record) -> Vec<u8> {
    let size = scramble(record, 1);
    let filler = if size.is_multiple_of(50) { size >> 8 & 4095 } else { size >> 8 & 63 } as usize;
    let mut value = Vec::with_capacity(IDENTITY_BYTES + filler);
    value.extend_from_slice(&record.producer.0.to_be_bytes());
    value.extend_from_slice(&record.number.to_be_bytes());
    let pattern = scramble(record, 2).to_le_bytes();
    value.extend(pattern.iter().cycle().take(filler));
    value
}

/// Which record a value is of, or what is wrong with it.
pub fn identify(bytes: &[u8]) -> Result<Record, String> {
    let (producer, rest) = bytes.split_first_chunk().ok_or("too short for a producer")?;
    let number = rest.first_chunk().ok_or("too short for a number")?;
    let record =
        Record { producer: Client(u32::from_be_bytes(*producer)), number: u64::from_be_bytes(*number) };
    if value(record) != bytes {
        return Err(format!("says it is {record}, but its {} bytes are not that record's", bytes.len()));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_record_and_any_damage() {
        for number in 0..200 {
            let record = Record { producer: Client(3), number };
            let mut bytes = value(record);
            assert_eq!(identify(&bytes), Ok(record));
            let at = number as usize % bytes.len();
            bytes[at] ^= 1;
            assert!(identify(&bytes).is_err());
            assert!(identify(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}
