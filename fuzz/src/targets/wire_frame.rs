//! Bytes to a frame. What is accepted has one form and the length its rows need.

use shoal_wire::{Frame, FrameHeader, examples};

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "wire_frame",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    examples::frames().iter().map(|(_, frame)| frame.to_bytes()).collect()
}

fn run(bytes: &[u8]) {
    let Ok(frame) = Frame::from_bytes(bytes) else {
        return;
    };
    assert_eq!(frame.to_bytes(), bytes, "a frame has one form");
    let header = frame.header;
    let length = FrameHeader::payload_bytes_of(header.kind, header.rows, header.width);
    assert_eq!(u64::from(header.payload_bytes), length);
    assert_eq!(frame.rows.len(), usize::from(header.rows) * header.width as usize * 2);
}
