//! The records of a produce request: what is taken is whole, undamaged and stays so under the leader's stamp.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use moldau_batch::{Batch, Header, Stamp, checksum, split};

/// Gives the first batch a checksum that holds, as a forger would.
fn forge(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if let Ok(header) = Header::parse(&bytes)
        && let Some(batch) = bytes.get_mut(..header.size())
    {
        let crc = checksum(batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    for records in [Bytes::copy_from_slice(data), Bytes::from(forge(data))] {
        let Ok(batches) = split(&records) else { continue };
        assert_eq!(batches.iter().map(|batch| batch.bytes().len()).sum::<usize>(), records.len());
        for batch in batches {
            let (header, bytes) = (batch.header(), batch.bytes());
            for stamp in
                [Stamp::new(header, 1 << 40, 3), Stamp::with_append_time(header, bytes, 1 << 40, 3, 7)]
            {
                let stored = Bytes::from(stamp.parts(bytes).concat());
                assert_eq!(
                    Batch::verify(&stored).expect("a stamped batch is whole").header(),
                    stamp.header()
                );
            }
        }
    }
});
