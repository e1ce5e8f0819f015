//! Tells static programs from dynamic ones by the program headers of a 64-bit ELF file.

/// How a program gets its libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linkage {
    /// Nothing outside the file is needed to start it.
    Static,
    /// It names a loader (`PT_INTERP`).
    Dynamic,
}

/// `p_type` of the header that names the loader.
const PT_INTERP: u32 = 3;

/// The linkage of a little-endian 64-bit ELF file; `None` when the bytes are no such file.
pub(crate) fn linkage(bytes: &[u8]) -> Option<Linkage> {
    // Magic, 64-bit class, little-endian.
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let offset = usize::try_from(u64::from_le_bytes(field(bytes, 32)?)).ok()?;
    let size = usize::from(u16::from_le_bytes(field(bytes, 54)?));
    let count = usize::from(u16::from_le_bytes(field(bytes, 56)?));
    for index in 0..count {
        let start = offset.checked_add(index.checked_mul(size)?)?;
        if u32::from_le_bytes(field(bytes, start)?) == PT_INTERP {
            return Some(Linkage::Dynamic);
        }
    }
    Some(Linkage::Static)
}

fn field<const N: usize>(bytes: &[u8], start: usize) -> Option<[u8; N]> {
    bytes.get(start..start.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(segment: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&segment.to_le_bytes());
        bytes
    }

    #[test]
    fn a_loader_segment_makes_a_program_dynamic() {
        assert_eq!(linkage(&elf(1)), Some(Linkage::Static));
        assert_eq!(linkage(&elf(PT_INTERP)), Some(Linkage::Dynamic));
    }

    #[test]
    fn damaged_headers_are_no_elf() {
        let whole = elf(1);
        for length in 0..64 + 4 {
            assert_eq!(linkage(&whole[..length]), None, "{length}");
        }
        let mut far = whole;
        far[32..40].fill(0xff);
        assert_eq!(linkage(&far), None);
    }
}
