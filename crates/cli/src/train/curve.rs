//! The loss over the steps, as pictures and as a line of blocks.

mod picture;

use std::fmt::Write as _;

use super::StepRecord;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 56.0;
/// Points of the smoothed line; more cannot be seen.
const POINTS_MAX: usize = 600;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Means of at most `count` equal parts.
fn means(records: &[StepRecord], count: usize) -> Vec<(u64, f64)> {
    let part = records.len().div_ceil(count.max(1)).max(1);
    let mean = |part: &[StepRecord]| {
        let sum: f64 = part.iter().map(|record| record.loss).sum();
        (part[part.len() / 2].step, sum / part.len() as f64)
    };
    records.chunks(part).map(mean).collect()
}

fn bounds(points: &[(u64, f64)]) -> (f64, f64) {
    let low = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    (low, if high > low { high } else { low + 1.0 })
}

/// Where everything is, in units of the SVG.
struct Frame {
    points: Vec<(u64, f64)>,
    last: u64,
    low: f64,
    high: f64,
}

/// A line of the grid and what is written at its ends.
struct Mark {
    loss: f64,
    y: f64,
    step: u64,
    x: f64,
}

impl Frame {
    /// `None` without steps.
    fn of(records: &[StepRecord]) -> Option<Self> {
        let points = means(records, POINTS_MAX);
        let last = points.last()?.0.max(1);
        let (low, high) = bounds(&points);
        Some(Self { points, last, low, high })
    }

    fn x(&self, step: u64) -> f64 {
        MARGIN + (WIDTH - 1.5 * MARGIN) * step as f64 / self.last as f64
    }

    fn y(&self, loss: f64) -> f64 {
        MARGIN / 2.0 + (HEIGHT - 1.5 * MARGIN) * (self.high - loss) / (self.high - self.low)
    }

    fn marks(&self) -> impl Iterator<Item = Mark> {
        (0..=4_u8).map(|part| {
            let loss = self.low + (self.high - self.low) * f64::from(part) / 4.0;
            let step = self.last * u64::from(part) / 4;
            Mark { loss, y: self.y(loss), step, x: self.x(step) }
        })
    }

    fn line(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().map(|&(step, loss)| (self.x(step), self.y(loss)))
    }
}

/// A PNG of the losses.
pub(crate) fn png(title: &str, records: &[StepRecord]) -> Vec<u8> {
    picture::png(title, Frame::of(records).as_ref())
}

/// An SVG of the losses.
pub(crate) fn svg(title: &str, records: &[StepRecord]) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"20\">{}</text>\n",
        escaped(title)
    );
    let Some(frame) = Frame::of(records) else { return out + "</svg>\n" };
    let (left, right, bottom) = (MARGIN, WIDTH - MARGIN / 2.0, HEIGHT - MARGIN / 2.0);
    for Mark { loss, y, step, x } in frame.marks() {
        let _ = writeln!(
            out,
            "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"8\" y=\"{y:.1}\">{loss:.3}</text>\
             <text x=\"{x:.1}\" y=\"{bottom}\">{step}</text>"
        );
    }
    let line: Vec<String> = frame.line().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        out,
        "<polyline fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"1.5\" points=\"{}\"/>\n</svg>",
        line.join(" ")
    );
    out
}

/// The losses as one line of blocks.
pub(crate) fn line(records: &[StepRecord], width: usize) -> String {
    let points = means(records, width);
    let (low, high) = bounds(&points);
    let block = |loss: f64| BLOCKS[((loss - low) / (high - low) * 7.0).round() as usize];
    points.iter().map(|&(_, loss)| block(loss)).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: u64) -> Vec<StepRecord> {
        let record = |step| StepRecord {
            step,
            loss: 8.0 / (step as f64 + 1.0),
            gradient_norm: 1.0,
            rate: 1e-3,
            tokens: 1,
            state: None,
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn falling_losses_make_a_falling_line() {
        let line = line(&records(1000), 40);
        assert_eq!(line.chars().count(), 40);
        assert_eq!(line.chars().next(), Some('█'));
        assert_eq!(line.chars().last(), Some('▁'));
    }

    #[test]
    fn a_picture_is_whole_with_any_number_of_steps() {
        for count in [0, 1, 2, 5000] {
            let svg = svg("a < b & c", &records(count));
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{count}");
            assert!(svg.contains("a &lt; b &amp; c"));
            assert!(!svg.contains("NaN") && svg.len() < 20_000, "{count}");
        }
    }

    #[test]
    fn a_png_is_read_back_with_its_curve() {
        for count in [0, 1, 2, 5000] {
            let bytes = png("loss", &records(count));
            let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            assert_eq!((info.width, info.height), (1440, 720));
            let blue = pixels.chunks(3).filter(|pixel| *pixel == [0x1f, 0x6f, 0xeb]).count();
            assert_eq!(blue > 1000, count > 1, "{count}: {blue}");
        }
    }
}
