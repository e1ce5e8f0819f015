//! Sections of any shape and format. What is accepted is what the writer writes.

use shoal_arith::WeightFormat;
use shoal_arith::tile::{LinearShape, check_scales, check_tile, read_row, write_row_group};

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "tiles",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

/// Format, rows and columns, then the section.
fn seeds() -> Vec<Vec<u8>> {
    let shapes = [(0_u8, 3_u8, 40_u8), (1, 17, 33), (2, 16, 64), (2, 1, 1)];
    let seeds = shapes.map(|(format, rows, columns)| {
        let shape = shape(format, rows, columns);
        let mut section = vec![0; shape.bytes()];
        for g in 0..shape.row_groups() {
            write_row_group(shape, g, &[], &mut section);
        }
        [&[format, rows, columns], &section[..]].concat()
    });
    seeds.to_vec()
}

fn shape(format: u8, rows: u8, columns: u8) -> LinearShape {
    LinearShape {
        rows: usize::from(rows).max(1),
        columns: usize::from(columns).max(1),
        format: WeightFormat::ALL[usize::from(format) % 3],
    }
}

fn run(bytes: &[u8]) {
    let [format, rows, columns, section @ ..] = bytes else {
        return;
    };
    let shape = shape(*format, *rows, *columns);
    if check_scales(shape, section).is_err() {
        return;
    }
    for g in 0..shape.row_groups() {
        for c in 0..shape.tile_columns() {
            let tile = &section[shape.tile_at(g, c)..][..shape.tile(c).bytes];
            if check_tile(shape, g, c, tile).is_err() {
                return;
            }
        }
    }
    let read: Vec<_> = (0..shape.rows).map(|row| read_row(shape, section, row)).collect();
    assert!(read.iter().all(|row| row.is_valid(shape.format)));
    let mut written = vec![0; shape.bytes()];
    for (g, rows) in read.chunks(16).enumerate() {
        write_row_group(shape, g, rows, &mut written);
    }
    assert!(written == section, "a section has one form");
}
