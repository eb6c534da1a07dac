//! Small dumps whose contents a test can recognise.

/// Returns an npy file of version 1.0.
pub(crate) fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let axes = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes},), }}");
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len()).expect("a short header").to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// Returns an npz file of these arrays, as `np.savez` writes it.
pub(crate) fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    let n_arrays = u16::try_from(arrays.len()).expect("a few");
    for (name, array) in arrays {
        let length = u32::try_from(array.len()).expect("a small array").to_le_bytes();
        let name_length = u16::try_from(name.len()).expect("a short name").to_le_bytes();
        let at = u32::try_from(file.len()).expect("a small file").to_le_bytes();
        let crc = crc32fast::hash(array).to_le_bytes();
        // The fields from "version needed" to "extra field length".
        let described =
            [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &crc, &length, &length, &name_length, &[0, 0]]
                .concat();
        file.extend([b"PK\x03\x04", &*described, name.as_bytes(), array].concat());
        directory.extend(
            [b"PK\x01\x02", &[20, 0][..], &described, &[0; 10], &at, name.as_bytes()].concat(),
        );
    }
    let at = u32::try_from(file.len()).expect("a small file").to_le_bytes();
    let length = u32::try_from(directory.len()).expect("a small directory").to_le_bytes();
    let n = n_arrays.to_le_bytes();
    file.extend([&*directory, b"PK\x05\x06", &[0; 4], &n, &n, &length, &at, &[0; 2]].concat());
    file
}

/// Returns an npy file of one gray picture of 4 × 4. Its first 8 pixels are the bytes of `n`.
pub(crate) fn gray(n: u64) -> Vec<u8> {
    npy("|u1", &[4, 4], &gray_pixels(&[n]))
}

/// Returns an npy file of several pictures like those of [`gray`].
pub(crate) fn gray_batch(numbers: &[u64]) -> Vec<u8> {
    npy("|u1", &[numbers.len(), 4, 4], &gray_pixels(numbers))
}

fn gray_pixels(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes().into_iter().chain([255; 8])).collect()
}
