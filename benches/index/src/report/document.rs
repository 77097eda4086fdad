//! Puts generated sections between their markers in a page; everything else in it is written by hand.

use super::Section;

/// The page with the text of each section between `<!-- begin: NAME -->` and `<!-- end: NAME -->`.
///
/// Sections that the page does not show are left out. A section of the page that the run does not have is an error: it
/// would keep numbers of another run.
pub(super) fn replace(page: &str, sections: &[Section]) -> Result<String, String> {
    let mut text = String::with_capacity(page.len());
    let mut rest = page;
    while let Some((before, behind)) = rest.split_once("<!-- begin: ") {
        let (name, behind) = behind.split_once(" -->").ok_or("a begin marker does not end")?;
        let end = format!("<!-- end: {name} -->");
        let (_, behind) = behind.split_once(&end).ok_or_else(|| format!("the page has no {end}"))?;
        let section = sections.iter().find(|section| section.name == name);
        let section = section.ok_or_else(|| format!("nothing was measured for {name}"))?;
        text.push_str(before);
        text.push_str(&format!("<!-- begin: {name} -->\n{}\n{end}", section.text.trim_end()));
        rest = behind;
    }
    Ok(text + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_replaces_the_numbers_and_leaves_the_prose() {
        let page = "Prose.\n<!-- begin: speed -->\nold\n<!-- end: speed -->\nMore.\n";
        let sections = [Section::new("other", "no".into()), Section::new("speed", "new\n".into())];
        let once = replace(page, &sections).unwrap();
        assert_eq!(once, "Prose.\n<!-- begin: speed -->\nnew\n<!-- end: speed -->\nMore.\n");
        assert_eq!(replace(&once, &sections).unwrap(), once);
    }

    #[test]
    fn numbers_of_another_run_cannot_stay() {
        let page = "<!-- begin: gone -->\nold\n<!-- end: gone -->";
        assert!(replace(page, &[]).is_err());
        assert!(replace("<!-- begin: open -->", &[Section::new("open", String::new())]).is_err());
    }
}
