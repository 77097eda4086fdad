//! The picture as a self-contained SVG: no font, script or style sheet from elsewhere.

mod canvas;
mod head;
mod overview;
mod panel;
mod style;

use super::model::Map;
use super::rows::Rows;
use canvas::{Canvas, N, Rect};
pub(super) use style::LETTERS;

/// Pixels across.
const WIDTH: f64 = 1200.0;
/// Where bands start: behind the addresses.
const LEFT: f64 = 152.0;
/// Pixels of a row's length: a power of two, so that pages have whole pixels.
const BAND: f64 = 1024.0;
const MARGIN: f64 = 24.0;

/// Draws the map.
pub(super) fn picture(map: &Map) -> String {
    let page = map.facts.page_size.max(1).next_power_of_two();
    let rows = Rows::fit(&map.windows, page * 16, |length, count| count <= most_rows(length / page));
    let mut canvas = Canvas::default();
    let mut y = head::draw(&mut canvas, map, MARGIN);
    let overview = overview::draw(&mut canvas, map, y + 18.0);
    y = overview.bottom;
    for (index, (window, rows)) in map.windows.iter().zip(&rows).enumerate() {
        if let Some(kernel) = map.kernel_before(index) {
            y = overview::kernel_between(&mut canvas, map, kernel, y);
        }
        if !rows.rows.is_empty() {
            // A funnel from the overview to the rows, where it is clear which rows.
            let zoom = overview.taken.get(index).copied().flatten().filter(|_| map.windows.len() == 1);
            y = panel::draw(&mut canvas, map, window, rows, y, zoom);
        }
    }
    y = head::foot(&mut canvas, map, y + 4.0);
    let mut picture = Canvas::default();
    let (width, height) = (N(WIDTH), N(y + MARGIN));
    picture.markup(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
    ));
    style::define(&mut picture);
    picture.rect("bg", Rect { x: 0.0, y: 0.0, width: WIDTH, height: y + MARGIN });
    picture.into_text() + &canvas.into_text() + "</svg>\n"
}

/// How many rows of so many pages make a picture that is neither a wall nor a stub.
fn most_rows(pages: u64) -> usize {
    match pages {
        ..=16 => 4,
        17..=32 => 16,
        33..=64 => 40,
        65..=128 => 96,
        129..=256 => 128,
        _ => 160,
    }
}

#[cfg(test)]
mod tests {
    use modmem::layout::MemoryKind;

    use super::super::model::{Map, tests};
    use super::*;

    fn parsed(svg: &str) -> roxmltree::Document<'_> {
        roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("{error}\n{svg}"))
    }

    fn titles<'a>(document: &'a roxmltree::Document<'_>) -> Vec<&'a str> {
        let titles =
            document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "title")));
        titles.filter_map(|node| node.text()).collect()
    }

    #[test]
    fn every_memory_guard_and_hole_has_its_title() {
        let map = tests::map(1);
        let svg = picture(&map);
        let document = parsed(&svg);
        let titles = titles(&document);
        let text = "module_0 Text 0xffffffffc0000000-0xffffffffc0001000, 4,096 of 4,096 bytes used, r-x";
        assert!(titles.contains(&text), "{titles:?}");
        assert_eq!(titles.iter().filter(|title| title.starts_with("guard page behind module_0 ")).count(), 4);
        assert!(titles.iter().any(|title| title.starts_with("free: ")), "{titles:?}");
    }

    #[test]
    fn three_hundred_modules_make_a_picture_below_a_megabyte() {
        let map = tests::map(300);
        let svg = picture(&map);
        assert!(svg.len() < 1 << 20, "{}", svg.len());
        let document = parsed(&svg);
        let titles = titles(&document);
        assert_eq!(titles.iter().filter(|title| title.contains("bytes used")).count(), 1200);
    }

    #[test]
    fn hostile_names_are_text_and_nothing_else() {
        let names = ["<script>alert(1)</script>\u{0}\u{1b}[2J&quot;]]>".to_owned(), "\"'/><g>".to_owned()];
        let mut facts = tests::facts(&names, &MemoryKind::ALL);
        facts.memories[0].sections = ".text\u{7}<b> 12".into();
        facts.release = "<release>&".into();
        facts.remarks = vec!["<remark>".into()];
        let svg = picture(&Map::new(facts));
        let document = parsed(&svg);
        assert!(
            document.descendants().all(|node| !matches!(node.tag_name().name(), "script" | "b" | "release"))
        );
        assert!(!svg.contains('\u{1b}') && !svg.contains('\u{0}'));
    }

    #[test]
    fn two_windows_are_both_drawn_and_the_gap_is_named() {
        let svg = picture(&tests::two_windows());
        let document = parsed(&svg);
        assert!(svg.contains("784 MiB between"), "{svg}");
        assert!(titles(&document).contains(&"the kernel, 0xc0000000-0xc0b19000; its code to 0xc061c000"));
        assert!(titles(&document).iter().any(|title| title.starts_with("loop Text 0xb0000000")));
        assert!(titles(&document).iter().any(|title| title.starts_with("loop Data 0xf1000000")));
    }

    #[test]
    fn nothing_in_the_picture_comes_from_elsewhere() {
        let svg = picture(&tests::map(3));
        let document = parsed(&svg);
        let foreign = |node: &roxmltree::Node<'_, '_>| {
            node.attributes().any(|a| a.name() == "href" || a.value().contains("http"))
                || matches!(node.tag_name().name(), "script" | "image" | "use" | "foreignObject")
        };
        assert!(!document.descendants().any(|node| foreign(&node)));
        assert!(!svg.contains("@import") && !svg.contains("@font-face"));
    }

    #[test]
    fn an_empty_space_is_a_picture_too() {
        parsed(&picture(&tests::map(0)));
    }
}
