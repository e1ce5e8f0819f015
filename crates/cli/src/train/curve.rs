//! The loss over the steps, as a picture and as a line of blocks.

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

/// An SVG of the losses.
pub(crate) fn svg(title: &str, records: &[StepRecord]) -> String {
    let points = means(records, POINTS_MAX);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"20\">{}</text>\n",
        escaped(title)
    );
    let Some(last) = points.last().map(|p| p.0.max(1)) else { return out + "</svg>\n" };
    let (low, high) = bounds(&points);
    let x = |step: u64| MARGIN + (WIDTH - 1.5 * MARGIN) * step as f64 / last as f64;
    let y = |loss: f64| MARGIN / 2.0 + (HEIGHT - 1.5 * MARGIN) * (high - loss) / (high - low);
    for part in 0..=4 {
        let loss = low + (high - low) * f64::from(part) / 4.0;
        let step = last * part as u64 / 4;
        let (left, right, bottom) = (MARGIN, WIDTH - MARGIN / 2.0, HEIGHT - MARGIN / 2.0);
        let _ = writeln!(
            out,
            "<path d=\"M{left} {0:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"8\" y=\"{0:.1}\">{loss:.3}</text>\
             <text x=\"{1:.1}\" y=\"{bottom}\">{step}</text>",
            y(loss),
            x(step)
        );
    }
    let line: Vec<String> =
        points.iter().map(|&(step, loss)| format!("{:.1},{:.1}", x(step), y(loss))).collect();
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
}
