//! Colours and fonts.
//!
//! The hues are Okabe and Ito's, which people with any of the common colour blindnesses can tell apart; init memory has
//! the hue of the memory that it corresponds to, lighter and striped.

use std::fmt::Write as _;

use modmem::layout::MemoryKind;

use super::canvas::Canvas;

/// Letters that stand for the types where names have no room, as on the terminal.
pub(crate) const LETTERS: [char; 7] = ['T', 'D', 'R', 'A', 't', 'd', 'r'];

/// One type's colours.
struct Colours {
    used: &'static str,
    /// The same by night; saturated colours glare on black.
    used_dark: &'static str,
    padding: &'static str,
    padding_dark: &'static str,
    text: &'static str,
}

const fn colours(kind: MemoryKind) -> Colours {
    let (used, used_dark, padding, padding_dark, text) = match kind {
        MemoryKind::Text => ("#0072b2", "#1b7fc0", "#bcdcf0", "#173a52", "#fff"),
        MemoryKind::Data => ("#e69f00", "#d99a10", "#fae3b4", "#4d3a10", "#1c1400"),
        MemoryKind::RoData => ("#008a65", "#0b9470", "#b7e4d7", "#12443a", "#fff"),
        MemoryKind::RoAfterInit => ("#cc79a7", "#c777a3", "#f3d9e7", "#4c2e40", "#26000f"),
        MemoryKind::InitText => ("#7cc1ec", "#6fb4df", "#e0f1fb", "#1d3c50", "#00263d"),
        MemoryKind::InitData => ("#f2cf63", "#e0c05c", "#fcf3d3", "#4a4019", "#2b2000"),
        MemoryKind::InitRoData => ("#7fd0b6", "#70c0a7", "#dff4ed", "#1c453a", "#00291c"),
    };
    Colours { used, used_dark, padding, padding_dark, text }
}

/// The class of a type's used bytes is `u` and its number; of its padding, `p`; of text on the former, `l`.
pub(super) fn class(letter: char, kind: MemoryKind) -> String {
    format!("{letter}{}", kind as u8)
}

/// Writes the style sheet and the hatchings.
pub(super) fn define(canvas: &mut Canvas) {
    let mut css = String::from(
        "text{font-family:Inter,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif;font-size:12px;fill:#1f2328}\n\
         .h{font-size:22px;font-weight:600}.big{font-size:19px;font-weight:600}.b{font-weight:600}\n\
         .dim{fill:#59636e}.s{font-size:11px}.e{text-anchor:end}.m{text-anchor:middle}\n\
         .a{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11px;fill:#59636e}\n\
         .n0{fill:#1f2328}.n1{fill:#59636e}.r0{fill:#1f2328}.r1{fill:#8c959f}.i{fill:url(#init)}\n\
         .bg{fill:#fff}.card{fill:#f6f8fa}.track{fill:#fff;stroke:#d1d9e0;stroke-width:1}.f{fill:transparent}\n\
         .g{fill:url(#guard)}.x{fill:url(#reserved);stroke:#8c959f;stroke-width:.6}\n\
         .grid{stroke:#d1d9e0;stroke-width:1;fill:none}.ink{stroke:#1f2328;stroke-width:1.2;fill:none}\n\
         .halo{stroke:#fff;stroke-width:5px;stroke-linejoin:round;paint-order:stroke}\n         .zoom{fill:#1f2328;fill-opacity:.07}.taken{fill:#1f2328}\n\
         .gl{stroke:#8c959f;stroke-width:1.1}.gb{fill:#eaeef2}.xl{stroke:#8c959f;stroke-width:.8;fill:none}.xb{fill:#f3f0f8}\n\
         .hl{stroke:#fff;stroke-opacity:.75;stroke-width:1.3}\n\
         .kd{fill:#8c6bb1}.kt{fill:#6a3d9a}.kl{fill:#fff}\n",
    );
    for kind in MemoryKind::ALL {
        let Colours { used, padding, text, .. } = colours(kind);
        let number = kind as u8;
        // Writing to a string cannot fail.
        let _ = writeln!(
            css,
            ".u{number}{{fill:{used}}}.p{number}{{fill:{padding};stroke:{used};stroke-width:.7}}.l{number}{{fill:{text}}}"
        );
    }
    css.push_str(
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim,.a{fill:#9198a1}.n0{fill:#e6edf3}.n1{fill:#9198a1}\n\
         .r0{fill:#e6edf3}.r1{fill:#656c76}.bg{fill:#0d1117}.card{fill:#151b23}.track{fill:#0d1117;stroke:#3d444d}\n\
         .grid{stroke:#3d444d}.ink{stroke:#e6edf3}.halo{stroke:#0d1117}.zoom{fill:#e6edf3;fill-opacity:.1}.taken{fill:#e6edf3}\n\
         .gb{fill:#212830}.gl{stroke:#656c76}.xb{fill:#262033}.hl{stroke:#0d1117;stroke-opacity:.5}\n",
    );
    for kind in MemoryKind::ALL {
        let Colours { used_dark, padding_dark, text, .. } = colours(kind);
        let number = kind as u8;
        let _ = writeln!(
            css,
            ".u{number}{{fill:{used_dark}}}.p{number}{{fill:{padding_dark};stroke:{used_dark}}}.l{number}{{fill:{text}}}"
        );
    }
    css.push('}');
    canvas.markup(format_args!("<style>\n{css}\n</style>"));
    canvas.markup(format_args!(
        "<defs>\n\
         <pattern id=\"guard\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <rect class=\"gb\" width=\"5\" height=\"5\"/><path class=\"gl\" d=\"M2.5 0V5\"/></pattern>\n\
         <pattern id=\"reserved\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">\
         <rect class=\"xb\" width=\"8\" height=\"8\"/><path class=\"xl\" d=\"M0 0L8 8M8 0L0 8\"/></pattern>\n\
         <pattern id=\"init\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(-45)\">\
         <path class=\"hl\" d=\"M3 0V6\"/></pattern>\n\
         </defs>"
    ));
}
