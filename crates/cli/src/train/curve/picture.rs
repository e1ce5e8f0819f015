//! The curve as a PNG, for places that show no SVG. Drawn by `embedded-graphics`, whose letters are
//! bitmaps: a few crates, no font file.

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_10X20;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Line, PrimitiveStyle};
use embedded_graphics::text::Text;

use super::{Frame, HEIGHT, MARGIN, WIDTH};

/// Pixels of a unit of the SVG.
const SCALE: f64 = 2.0;
const BLACK: Rgb888 = Rgb888::BLACK;
const GRID: Rgb888 = Rgb888::new(0xdd, 0xdd, 0xdd);
const CURVE: Rgb888 = Rgb888::new(0x1f, 0x6f, 0xeb);

/// Three bytes for each pixel, row by row, white at first.
struct Canvas {
    bytes: Vec<u8>,
}

const SIZE: Size = Size::new((WIDTH * SCALE) as u32, (HEIGHT * SCALE) as u32);

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        SIZE
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        let inside = self.bounding_box();
        for Pixel(point, color) in pixels {
            if inside.contains(point) {
                let at = (point.y as usize * SIZE.width as usize + point.x as usize) * 3;
                self.bytes[at..at + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}

fn point(x: f64, y: f64) -> Point {
    Point::new((x * SCALE).round() as i32, (y * SCALE).round() as i32)
}

/// A PNG of the losses.
pub(super) fn png(title: &str, frame: Option<&Frame>) -> Vec<u8> {
    let mut canvas = Canvas { bytes: vec![255; 3 * (SIZE.width * SIZE.height) as usize] };
    let Ok(()) = draw(&mut canvas, title, frame);
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, SIZE.width, SIZE.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().expect("memory takes everything");
    writer.write_image_data(&canvas.bytes).expect("the bytes are those of the picture");
    writer.finish().expect("memory takes everything");
    out
}

fn draw(
    canvas: &mut Canvas,
    title: &str,
    frame: Option<&Frame>,
) -> Result<(), std::convert::Infallible> {
    let letters = MonoTextStyle::new(&FONT_10X20, BLACK);
    Text::new(title, point(MARGIN, 20.0), letters).draw(canvas)?;
    let Some(frame) = frame else { return Ok(()) };
    for mark in frame.marks() {
        let (left, right) = (point(MARGIN, mark.y), point(WIDTH - MARGIN / 2.0, mark.y));
        let line = Line::new(left, right).into_styled(PrimitiveStyle::with_stroke(GRID, 1));
        line.draw(canvas)?;
        Text::new(&format!("{:.3}", mark.loss), point(2.0, mark.y), letters).draw(canvas)?;
        let below = point(mark.x, HEIGHT - MARGIN / 2.0);
        Text::new(&mark.step.to_string(), below, letters).draw(canvas)?;
    }
    let points: Vec<Point> = frame.line().map(|(x, y)| point(x, y)).collect();
    // Line by line: the library's joints of thick polylines overflow on steep curves.
    for ends in points.windows(2) {
        let style = PrimitiveStyle::with_stroke(CURVE, 3);
        Line::new(ends[0], ends[1]).into_styled(style).draw(canvas)?;
    }
    Ok(())
}
