//! The look of every plot: colours, and how text is set.

use super::font;

/// A colour of the page, from 0 to 255 each, and how much it covers what lies under it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Colour {
    pub rgb: [u8; 3],
    pub opacity: f64,
}

impl Colour {
    pub const fn solid(rgb: [u8; 3]) -> Self {
        Self { rgb, opacity: 1.0 }
    }

    /// The same colour, translucent.
    pub fn mix(self, opacity: f64) -> Self {
        Self { opacity, ..self }
    }

    /// `#rrggbb`
    pub fn hex(self) -> String {
        let [r, g, b] = self.rgb;
        format!("#{r:02x}{g:02x}{b:02x}")
    }
}

/// Text, frames and ticks.
pub(super) const INK: Colour = Colour::solid([38, 38, 38]);
/// What should stay in the background: diagonals, bands, remarks.
pub(super) const GREY: Colour = Colour::solid([112, 112, 112]);
/// The page.
pub(super) const PAPER: Colour = Colour::solid([255, 255, 255]);

/// Okabe and Ito's palette, told apart by colour-blind readers too.
pub(super) const PALETTE: [Colour; 7] = [
    Colour::solid([0, 114, 178]),
    Colour::solid([213, 94, 0]),
    Colour::solid([0, 158, 115]),
    Colour::solid([170, 68, 153]),
    Colour::solid([230, 159, 0]),
    Colour::solid([86, 180, 233]),
    Colour::solid([90, 90, 90]),
];

/// The colour of the `i`-th series: the palette, darker each time it is used up.
pub(super) fn colour(i: usize) -> Colour {
    let Colour { rgb, .. } = PALETTE[i % PALETTE.len()];
    let darker = |c: u8| (f64::from(c) * 0.55f64.powf((i / PALETTE.len()) as f64)) as u8;
    Colour::solid(rgb.map(darker))
}

/// Which part of a text is at its given place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Align {
    Left,
    Centre,
    Right,
}

impl Align {
    /// The part of the text's width that lies before its place.
    pub fn part(self) -> f64 {
        match self {
            Self::Left => 0.0,
            Self::Centre => 0.5,
            Self::Right => 1.0,
        }
    }
}

/// How a line of text is set.
#[derive(Clone, Copy)]
pub(super) struct Font {
    pub size: f64,
    pub align: Align,
    pub colour: Colour,
    /// Reads from bottom to top.
    pub upward: bool,
}

pub(super) const TICK: Font = Font { size: 9.5, align: Align::Centre, colour: INK, upward: false };
pub(super) const LABEL: Font = Font { size: 11.0, ..TICK };
pub(super) const LEGEND: Font = Font { align: Align::Left, ..LABEL };
pub(super) const HEADING: Font = Font { size: 14.0, align: Align::Left, ..LABEL };

impl Font {
    /// A text's width in pixels.
    pub fn width(&self, text: &str) -> f64 {
        self.size * font::width(text)
    }

    /// The same font, made smaller where the text would not fit into `width`.
    pub fn fit(self, text: &str, width: f64) -> Self {
        Self { size: self.size * (width / self.width(text).max(1e-9)).min(1.0), ..self }
    }
}

/// Splits at the space that leaves the shortest longer half.
pub(super) fn halves(text: &str) -> Vec<&str> {
    let longer = |(a, b): &(&str, &str)| a.chars().count().max(b.chars().count());
    let split = text.match_indices(' ').map(|(at, _)| (&text[..at], &text[at + 1..])).min_by_key(longer);
    split.map_or(vec![text], |(a, b)| vec![a, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_split_where_its_halves_balance() {
        assert_eq!(halves("a b"), ["a", "b"]);
        assert_eq!(halves("formation time scale [Gyr]"), ["formation time", "scale [Gyr]"]);
        assert_eq!(halves("unbroken"), ["unbroken"]);
        assert_eq!(halves(""), [""]);
    }
}
