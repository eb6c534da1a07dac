//! A matrix of bytes, transposed.

use std::ops::Range;

/// Rows and columns that are transposed in registers.
const TILE: usize = 16;

/// Calls `see` with the rows and columns of each part of a matrix. A part is finished before the next one: the lines of
/// its rows are in the processor's nearest cache together, also if they compete for the same places of it.
pub(crate) fn each_part(
    [n_rows, n_columns]: [usize; 2],
    mut see: impl FnMut(Range<usize>, Range<usize>),
) {
    const SIDE: usize = 64;
    for row in (0..n_rows).step_by(SIDE) {
        for column in (0..n_columns).step_by(SIDE) {
            see(row..n_rows.min(row + SIDE), column..n_columns.min(column + SIDE));
        }
    }
}

/// Transposes a matrix: the byte at `(row, column)` of `from` is the one at `(column, row)` of `to`.
///
/// # Panics
/// If `from` or `to` has another number of bytes.
pub(crate) fn transpose(from: &[u8], [n_rows, n_columns]: [usize; 2], to: &mut [u8]) {
    let n = n_rows * n_columns;
    assert!(from.len() == n && to.len() == n, "{n_rows} × {n_columns} bytes");
    let (even_rows, even_columns) = (n_rows / TILE * TILE, n_columns / TILE * TILE);
    each_part([even_rows, even_columns], |rows, columns| {
        for row in rows.step_by(TILE) {
            for column in columns.clone().step_by(TILE) {
                let tile = transposed(&read(from, n_columns, row, column));
                write(&tile, to, n_rows, column, row);
            }
        }
    });
    let right =
        (0..n_rows).flat_map(|row| (even_columns..n_columns).map(move |column| (row, column)));
    let below =
        (even_rows..n_rows).flat_map(|row| (0..even_columns).map(move |column| (row, column)));
    for (row, column) in right.chain(below) {
        to[column * n_rows + row] = from[row * n_columns + column];
    }
}

type Tile = [[u8; TILE]; TILE];

fn read(from: &[u8], n_columns: usize, row: usize, column: usize) -> Tile {
    let mut tile = [[0; TILE]; TILE];
    for (i, to) in tile.iter_mut().enumerate() {
        to.copy_from_slice(&from[(row + i) * n_columns + column..][..TILE]);
    }
    tile
}

fn write(tile: &Tile, to: &mut [u8], n_columns: usize, row: usize, column: usize) {
    for (i, from) in tile.iter().enumerate() {
        to[(row + i) * n_columns + column..][..TILE].copy_from_slice(from);
    }
}

/// Transposes a tile: four times, row i and row i + 8 become rows 2i and 2i + 1, their bytes by turns.
#[cfg(target_arch = "x86_64")]
fn transposed(tile: &Tile) -> Tile {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm_storeu_si128, _mm_unpackhi_epi8, _mm_unpacklo_epi8,
    };

    // SAFETY: every x86-64 processor has SSE2. 16 bytes are read or written at a time, which the types have.
    unsafe {
        let mut rows = tile.each_ref().map(|row| _mm_loadu_si128(row.as_ptr().cast()));
        for _ in 0..4 {
            let before = rows;
            for i in 0..TILE / 2 {
                let (a, b) = (before[i], before[i + TILE / 2]);
                rows[2 * i] = _mm_unpacklo_epi8(a, b);
                rows[2 * i + 1] = _mm_unpackhi_epi8(a, b);
            }
        }
        let mut tile = [[0; TILE]; TILE];
        for (to, row) in tile.iter_mut().zip(rows) {
            _mm_storeu_si128(to.as_mut_ptr().cast(), row);
        }
        tile
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn transposed(tile: &Tile) -> Tile {
    transposed_one_by_one(tile)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn transposed_one_by_one(tile: &Tile) -> Tile {
    std::array::from_fn(|row| std::array::from_fn(|column| tile[column][row]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tile_is_that_of_the_twin(tile: [[u8; TILE]; TILE]) {
            prop_assert_eq!(transposed(&tile), transposed_one_by_one(&tile));
        }

        #[test]
        fn every_byte_goes_to_its_place(n_rows in 1usize..150, n_columns in 1usize..150, seed: u8) {
            let byte = |i: usize| u8::try_from(i * 31 % 251).unwrap_or(0).wrapping_add(seed);
            let from: Vec<u8> = (0..n_rows * n_columns).map(byte).collect();
            let mut to = vec![0; from.len()];
            transpose(&from, [n_rows, n_columns], &mut to);
            for (i, &got) in to.iter().enumerate() {
                prop_assert_eq!(got, from[i % n_rows * n_columns + i / n_rows]);
            }
        }
    }
}
