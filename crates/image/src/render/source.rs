//! Reads a tensor's elements in the order of the storage.
//!
//! A view is a list of axes. Each axis has a stride in the storage and a stride in the destination. The
//! axes are walked by their strides in the storage, the longest one outermost. Two axes without a gap in
//! storage and destination are walked as one. So a picture in C order is one run of bytes. So is one with
//! channels first or in Fortran order, if the destination has the same order. Other views (torch views) are
//! read in runs as long as possible. Unless a view repeats elements, the storage is read from its beginning
//! to its end.

use std::io;

use crate::convert::Elements;
use crate::decode::ReadAt;
use crate::plan::CHUNK_BYTES;

/// One axis of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) length: u64,
    /// The stride in the storage, in elements.
    pub(super) from: u64,
    /// The stride in the destination, in elements.
    pub(super) to: u64,
}

/// The elements of a picture, or of one of its channels.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// The first element's offset in the storage, in bytes.
    pub(super) first: u64,
    /// The first element's index in the destination.
    pub(super) to: u64,
    pub(super) axes: Vec<Axis>,
}

/// The destination of a chunk's elements: the index of the first, and the stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) first: usize,
    pub(super) step: usize,
}

impl View {
    /// Returns the axes to walk, outermost first: without those of length 1, and neighbours without a gap
    /// joined.
    fn walked(&self) -> Vec<Axis> {
        let mut axes: Vec<Axis> =
            self.axes.iter().copied().filter(|axis| axis.length != 1).collect();
        // An axis of repeated elements (stride 0) is outermost, so that the runs stay long.
        axes.sort_by_key(|axis| (axis.from != 0, std::cmp::Reverse(axis.from)));
        let mut walked: Vec<Axis> = Vec::with_capacity(axes.len());
        for axis in axes {
            match walked.last_mut() {
                Some(outer)
                    if outer.from == axis.length * axis.from
                        && outer.to == axis.length * axis.to =>
                {
                    *outer = Axis { length: outer.length * axis.length, ..axis };
                }
                _ => walked.push(axis),
            }
        }
        walked
    }
}

/// Buffers for reading, reused for each image.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    window: Window,
    chunk: Vec<u8>,
}

/// Reads views of a storage.
pub(super) struct Source<'a, R> {
    storage: &'a R,
    elements: Elements,
    window: &'a mut Window,
    chunk: &'a mut Vec<u8>,
}

impl<'a, R: ReadAt> Source<'a, R> {
    pub(super) fn new(storage: &'a R, elements: Elements, buffers: &'a mut Buffers) -> Self {
        let Buffers { window, chunk } = buffers;
        // Its bytes are of another storage.
        window.bytes.clear();
        Self { storage, elements, window, chunk }
    }

    /// Calls `see` with all elements of a view in chunks, as they are in the dump, and with the destination
    /// of each chunk.
    ///
    /// # Errors
    /// If reading fails.
    pub(super) fn each_chunk<E: From<io::Error>>(
        &mut self,
        view: &View,
        mut see: impl FnMut(Target, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let size = self.elements.dtype.size() as u64;
        let walked = view.walked();
        let one = Axis { length: 1, from: 1, to: 1 };
        let (inner, outer) = walked.split_last().map_or((one, &[][..]), |(i, outer)| (*i, outer));
        // The number of elements that fit a chunk, with the gaps between them.
        let n_at_once = (CHUNK_BYTES as u64 / size / inner.from.max(1)).max(1);
        let mut place = vec![0u64; outer.len()];
        loop {
            let (from, to) =
                outer.iter().zip(&place).fold((0, view.to), |(from, to), (axis, at)| {
                    (from + at * axis.from, to + at * axis.to)
                });
            let mut at = 0;
            while at < inner.length {
                let n = n_at_once.min(inner.length - at);
                let first = view.first + (from + at * inner.from) * size;
                self.read(first, n, inner.from, size)?;
                let target = Target { first: index(to + at * inner.to)?, step: index(inner.to)? };
                see(target, self.chunk)?;
                at += n;
            }
            // To the next position: the last axis runs fastest.
            let mut axis = outer.len();
            loop {
                let Some(next) = axis.checked_sub(1) else { return Ok(()) };
                axis = next;
                place[axis] += 1;
                if place[axis] < outer[axis].length {
                    break;
                }
                place[axis] = 0;
            }
        }
    }

    /// Reads `n` elements, `step` elements apart, into the chunk.
    fn read(&mut self, first: u64, n: u64, step: u64, size: u64) -> io::Result<()> {
        let span = index(((n - 1) * step + 1) * size)?;
        let (n, step, size) = (index(n)?, index(step * size)?, index(size)?);
        if step == size && span >= CHUNK_BYTES / 2 {
            self.chunk.resize(span, 0);
            return self.storage.read_exact_at(self.chunk, first);
        }
        self.chunk.clear();
        let bytes = self.window.get(self.storage, first, span)?;
        if step == size {
            self.chunk.extend_from_slice(bytes);
        } else {
            for i in 0..n {
                self.chunk.extend_from_slice(&bytes[i * step..i * step + size]);
            }
        }
        Ok(())
    }
}

/// A part of the storage in memory, so that a short run does not cost a read of its own.
#[derive(Debug, Default)]
struct Window {
    first: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn get(&mut self, storage: &impl ReadAt, first: u64, n: usize) -> io::Result<&[u8]> {
        /// The bytes to read at a position that is far from the last one.
        const ALONE: u64 = 4096;
        /// The largest gap to the last position that counts as near.
        const NEAR: u64 = 32 << 10;
        let end = self.first + self.bytes.len() as u64;
        if first < self.first || first + n as u64 > end {
            let left = storage.n_bytes().saturating_sub(first);
            let is_near = (self.first..=end + NEAR).contains(&first);
            let ahead = if is_near { CHUNK_BYTES as u64 } else { ALONE };
            let n_read = index(left.min(ahead))?.max(n);
            self.bytes.resize(n_read, 0);
            self.first = first;
            if let Err(error) = storage.read_exact_at(&mut self.bytes, first) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let at = index(first - self.first)?;
        Ok(&self.bytes[at..at + n])
    }
}

fn index(n: u64) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::{ByteOrder, DType};

    /// The elements of a view of a storage that counts its elements, by where they go.
    fn gathered(view: &View, n_storage: u64, n: usize) -> Vec<u16> {
        let n_storage = u16::try_from(n_storage).unwrap_or(u16::MAX);
        let storage: Vec<u8> = (0..n_storage).flat_map(u16::to_le_bytes).collect();
        let elements = Elements { dtype: DType::U16, byte_order: ByteOrder::Little };
        let mut made = vec![u16::MAX; n];
        let storage = storage.as_slice();
        let mut buffers = Buffers::default();
        let mut source = Source::new(&storage, elements, &mut buffers);
        let result: io::Result<()> = source.each_chunk(view, |target, chunk| {
            let values = chunk.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
            for (i, value) in values.enumerate() {
                made[target.first + i * target.step] = value;
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
        made
    }

    fn axis(length: u64, from: u64, to: u64) -> Axis {
        Axis { length, from, to }
    }

    #[test]
    fn axes_without_gaps_are_walked_as_one() {
        let walked = |axes: &[Axis]| View { first: 0, to: 0, axes: axes.to_vec() }.walked();
        // HWC to HWC.
        assert_eq!(walked(&[axis(4, 15, 15), axis(5, 3, 3), axis(3, 1, 1)]), [axis(60, 1, 1)]);
        // CHW to HWC.
        let chw = [axis(4, 5, 15), axis(5, 1, 3), axis(3, 20, 1)];
        assert_eq!(walked(&chw), [axis(3, 20, 1), axis(20, 1, 3)]);
        // Fortran order.
        let fortran = [axis(4, 1, 15), axis(5, 4, 3), axis(3, 20, 1)];
        assert_eq!(walked(&fortran), [axis(3, 20, 1), axis(5, 4, 3), axis(4, 1, 15)]);
        assert_eq!(walked(&[axis(1, 9, 9)]), []);
    }

    #[test]
    fn one_element_is_a_view_too() {
        let view = View { first: 6, to: 0, axes: vec![] };
        assert_eq!(gathered(&view, 5, 1), [3]);
    }

    proptest! {
        #[test]
        fn every_element_goes_to_its_place(
            lengths in proptest::collection::vec(1u64..6, 3),
            strides in proptest::collection::vec(0u64..40, 3),
            first in 0u64..20,
        ) {
            let to = [lengths[1] * lengths[2], lengths[2], 1];
            let axes = (0..3).map(|i| axis(lengths[i], strides[i], to[i])).collect();
            let view = View { first: first * 2, to: 0, axes };
            let n = usize::try_from(lengths.iter().product::<u64>()).unwrap_or(0);
            let mut want = Vec::new();
            for a in 0..lengths[0] {
                for b in 0..lengths[1] {
                    for c in 0..lengths[2] {
                        let at = first + a * strides[0] + b * strides[1] + c * strides[2];
                        want.push(u16::try_from(at).unwrap_or(u16::MAX));
                    }
                }
            }
            prop_assert_eq!(gathered(&view, 1000, n), want);
        }
    }
}
