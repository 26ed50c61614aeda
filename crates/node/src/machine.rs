//! What the machine says of itself.

use moldau_base::Uuid;

/// Linux makes a random id at each boot; what a process has written stays visible as long as it is the same.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The boot of the machine; none where the system does not tell.
pub fn boot() -> Option<Uuid> {
    std::fs::read_to_string(BOOT_ID).ok().and_then(|text| parse(&text))
}

/// An id in the spelling of RFC 9562.
fn parse(text: &str) -> Option<Uuid> {
    let digits: Vec<u8> = text.trim().bytes().filter(|byte| *byte != b'-').collect();
    let bytes: [u8; 16] = hex(&digits)?.try_into().ok()?;
    Some(Uuid(bytes)).filter(|id| !id.is_zero())
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| (digit as char).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(value(*high)? << 4 | value(*low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_read_as_linux_writes_it() {
        let text = "3d2b1f00-0102-4304-8506-0708090a0b0c\n";
        let bytes = [0x3d, 0x2b, 0x1f, 0, 1, 2, 0x43, 4, 0x85, 6, 7, 8, 9, 0xa, 0xb, 0xc];
        assert_eq!(parse(text), Some(Uuid(bytes)));
        for bad in ["", "none", "3d2b1f00-0102-4304-8506-0708090a0b", "3d2b1f00-0102-4304-8506-0708090a0b0g"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse("00000000-0000-0000-0000-000000000000"), None);
    }
}
