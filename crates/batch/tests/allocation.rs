//! Reading the inside of a batch costs no more memory than the caller's limit allows, whatever the compressed bytes claim.
#![allow(unsafe_code)] // an allocator that counts cannot be written without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use moldau_base::Rng;
use moldau_batch::{Batch, Builder, Codec, HEADER_BYTES, checksum};

const LIMIT: usize = 256 << 10;
/// The output grows by doubling, and is held once more while it is copied to its new place.
const PER_LIMIT: usize = 3;
/// What a codec may hold for itself: an LZ4 frame with the largest blocks needs one of input and two of output.
const OWN: usize = 13 << 20;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.with(|live| {
            live.set(live.get() + layout.size());
            PEAK.with(|peak| peak.set(peak.get().max(live.get())));
        });
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.with(|live| live.set(live.get().saturating_sub(layout.size())));
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes in use at the peak of reading all records of `batch`, beyond those before.
fn peak(batch: &Batch) -> usize {
    let before = LIVE.get();
    PEAK.set(before);
    if let Ok(records) = batch.records(LIMIT) {
        let _ = records.map_while(Result::ok).map(|record| record.headers.count()).sum::<usize>();
    }
    PEAK.get() - before
}

fn verified(mut bytes: Vec<u8>) -> Batch {
    let crc = checksum(&bytes);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::verify(&Bytes::from(bytes)).unwrap()
}

#[test]
fn hostile_bytes_cost_no_more_than_the_limit() {
    let mut rng = Rng::seeded(7);
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for size in [10, 10_000, 4 << 20] {
            let mut builder = Builder::new(codec);
            builder.push(0, Some(b"key"), Some(&vec![b'v'; size]), &[(b"h", None)]);
            let whole = builder.build().unwrap();
            let mut worst = peak(&Batch::verify(&whole).unwrap());
            for _ in 0..if size > 1 << 20 { 30 } else { 1000 } {
                let mut bytes = whole.to_vec();
                for _ in 0..=rng.below(3) {
                    // The codecs say sizes at the front.
                    let within = [24, bytes.len() - HEADER_BYTES][rng.below(2) as usize]
                        .min(bytes.len() - HEADER_BYTES);
                    let at = HEADER_BYTES + rng.below(within as u64) as usize;
                    bytes[at] = [0xff, 0x7f, 0x80, 0x00, rng.next_u64() as u8][rng.below(5) as usize];
                }
                worst = worst.max(peak(&verified(bytes)));
            }
            assert!(worst <= PER_LIMIT * LIMIT + OWN, "{codec}: {worst} bytes for a record of {size}");
        }
    }
}
