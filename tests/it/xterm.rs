//! `show --picture` in a real terminal emulator: xterm under Xvfb, whose screen is compared with the picture.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{KilledOnDrop, PROGRAM, TempRun, has_program, npy, wait_for};

/// A screen of [`Screen::SIZE`] pixels, in memory.
struct Screen {
    display: String,
    frame: PathBuf,
    _server: KilledOnDrop,
}

/// What a screen shows: 4 bytes for each pixel, of which the first three are blue, green and red.
struct Frame {
    bytes: Vec<u8>,
    width: usize,
}

impl Screen {
    const SIZE: &str = "800x500x24";

    fn start(folder: &Path) -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0", Self::SIZE, "-fbdir"])
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb");
        let mut number = String::new();
        let out = server.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut number).expect("the number of the display");
        let frame = folder.join("Xvfb_screen0");
        Self { display: format!(":{}", number.trim()), frame, _server: KilledOnDrop(server) }
    }

    /// Runs a command in an xterm that fills the screen's upper left corner without any edge. The window stays.
    fn xterm(&self, command: &[&str]) -> KilledOnDrop {
        let script = "\"$0\" \"$@\"; sleep 600";
        let child = Command::new("xterm")
            .args(["-ti", "vt340", "-geometry", "80x24+0+0", "-b", "0", "-bw", "0", "+sb"])
            .args(["-bg", "black", "-fg", "white", "-e", "sh", "-c", script])
            .args(command)
            .env("DISPLAY", &self.display)
            // Those of the terminal in which the test runs.
            .env_remove("TMUX")
            .env_remove("STY")
            .env_remove("TERM_PROGRAM")
            .env_remove("LC_TERMINAL")
            .stderr(Stdio::null())
            .spawn();
        KilledOnDrop(child.expect("xterm"))
    }

    /// Reads the screen, a file of the X Window Dump format, version 7.
    fn look(&self) -> Frame {
        let file = fs::read(&self.frame).expect("the screen");
        let field = |at: usize| {
            let bytes = file[at * 4..at * 4 + 4].try_into().expect("four bytes");
            u32::from_be_bytes(bytes) as usize
        };
        let (header, width, bits, per_line, n_colors) =
            (field(0), field(4), field(11), field(12), field(19));
        assert_eq!((field(1), field(7), bits, per_line), (7, 0, 32, width * 4), "little-endian");
        Frame { bytes: file[header + n_colors * 12..].to_vec(), width }
    }
}

impl Frame {
    fn rgb(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 4;
        [self.bytes[at + 2], self.bytes[at + 1], self.bytes[at]]
    }
}

/// A picture of some number of columns and rows.
struct Picture {
    width: usize,
    rgb: Vec<[u8; 3]>,
}

impl Picture {
    fn new(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [usize; 3]) -> Self {
        let place = |at: usize| (at % width, at / width);
        let rgb = (0..width * height).map(|at| {
            let (x, y) = place(at);
            pixel(x, y).map(|value| u8::try_from(value % 256).expect("a byte"))
        });
        Self { width, rgb: rgb.collect() }
    }

    fn dump(&self) -> Vec<u8> {
        npy("|u1", &[self.rgb.len() / self.width, self.width, 3], self.rgb.as_flattened())
    }

    /// The mean of all squares of `side` pixels: the differences between them and those of the screen, where each pixel
    /// is `factor` times as large and the upper left one is at `left`, `top`. The greatest one, in levels of a colour.
    fn differs(
        &self,
        frame: &Frame,
        (left, top): (usize, usize),
        factor: usize,
        side: usize,
    ) -> u64 {
        let (columns, rows) = (self.width / side, self.rgb.len() / self.width / side);
        let mut most = 0;
        for square in 0..columns * rows {
            let (x0, y0) = (square % columns * side, square / columns * side);
            for channel in 0..3 {
                let (mut got, mut want) = (0i64, 0i64);
                for y in y0..y0 + side {
                    for x in x0..x0 + side {
                        want += i64::from(self.rgb[y * self.width + x][channel]);
                        // The middle of the enlarged pixel.
                        let at = |place: usize| place * factor + factor / 2;
                        got += i64::from(frame.rgb(left + at(x), top + at(y))[channel]);
                    }
                }
                most = most.max((got - want).unsigned_abs() / (side * side) as u64);
            }
        }
        most
    }

    /// Whether the squares of `side` pixels differ from those on the screen by no more than `levels`.
    fn is_on(&self, frame: &Frame, factor: usize, side: usize, levels: u64) -> bool {
        // xterm has an inner edge of some pixels.
        let mut places = (0..8).flat_map(|y| (0..8).map(move |x| (x, y)));
        places.any(|place| self.differs(frame, place, factor, side) <= levels)
    }

    /// The picture with another blue in the last square of `side` pixels.
    fn with_other_corner(&self, side: usize, levels: u8) -> Self {
        let mut rgb = self.rgb.clone();
        let height = rgb.len() / self.width;
        for y in height - side..height {
            for x in self.width - side..self.width {
                let blue = &mut rgb[y * self.width + x][2];
                *blue = blue.checked_sub(levels).unwrap_or_else(|| *blue + levels);
            }
        }
        Self { width: self.width, rgb }
    }
}

/// Shows a picture in xterm until its squares of `side` pixels differ from the screen by no more than `levels`. A
/// picture that differs by twice as many levels in one square is not seen there.
fn is_shown(screen: &Screen, picture: &Picture, factor: usize, side: usize, levels: u8) {
    let temp = TempRun::new();
    temp.write("dumps/k/1.npy", &picture.dump());
    assert_eq!(temp.ingest().code, 0);
    let store = temp.store();
    let store = store.to_str().expect("a path");
    let _window = screen.xterm(&[PROGRAM, "show", "run", "k", "1", "--picture", "--store", store]);
    let is_seen =
        |picture: &Picture| picture.is_on(&screen.look(), factor, side, u64::from(levels));
    wait_for("the picture", || is_seen(picture));
    assert!(!is_seen(&picture.with_other_corner(side, 2 * levels + 1)), "another picture is seen");
}

#[test]
fn xterm_shows_the_pixels_of_a_picture() {
    if !has_program("Xvfb") || !has_program("xterm") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let screen = Screen::start(folder.path());
    // 192 colours, which all are kept. A level of a sixel colour is 1 %: at most 2 of 256.
    let small = Picture::new(16, 12, |x, y| [x * 15, y * 20, (x / 2 + y) % 2 * 255]);
    // A character is 6 pixels wide, so that 32 of them have room for 12 times the picture.
    is_shown(&screen, &small, 12, 1, 2);
    // More than 256 colours are dithered: squares of pixels keep their mean, more or less.
    let large = Picture::new(256, 192, |x, y| [x, y * 4 / 3, usize::midpoint(x, y)]);
    is_shown(&screen, &large, 1, 16, 24);
}
