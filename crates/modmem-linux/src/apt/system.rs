//! What this system's own apt says of a package: who offers it, and who signed that. Whoever set up apt's sources decides
//! what they are worth; a report names them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where keys are that sign for any source that names none (apt-secure(8)).
const ANY_KEY: &str = "any key in /etc/apt/trusted.gpg.d";
/// What a source has that apt was told to believe without a signature (sources.list(5)).
const NO_KEY: &str = "nobody ([trusted=yes])";

/// The version that apt would take, and where it finds it: an address and a suite with a component.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) version: String,
    pub(super) address: String,
    suite: String,
}

impl Candidate {
    /// Understands `apt-cache policy PACKAGE`.
    pub(super) fn parse(policy: &str) -> Option<Candidate> {
        let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?.to_owned();
        let mut lines = policy.lines().skip_while(|line| line.trim() != "Version table:").skip(1);
        // A version and its priority; three asterisks before the one that is installed.
        lines.find(|line| {
            let line = line.trim_start().trim_start_matches("*** ");
            !line.contains("://") && line.split(' ').next() == Some(&version)
        })?;
        // Its sources are behind it, before the next version.
        let mut sources = lines.take_while(|line| line.trim_start().split(' ').count() > 2);
        let (address, suite) = sources.find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (address, suite) = (words.next()?, words.next()?);
            address.contains(':').then(|| (address.to_owned(), suite.to_owned()))
        })?;
        Some(Candidate { version, address, suite })
    }

    /// Whose archive it is, in words: what its release file calls itself (`apt-cache policy` shows it), and where it is.
    pub(super) fn origin(&self, policies: &str) -> String {
        let place = format!(" {} {} ", self.address, self.suite);
        let mut lines = policies.lines().skip_while(|line| !line.contains(&place)).skip(1);
        let release = lines.next().and_then(|line| line.trim().strip_prefix("release ")).unwrap_or_default();
        let fields = || release.split(',').filter_map(|field| field.split_once('='));
        let field = |name: &str| fields().find(|(key, _)| *key == name).map(|(_, value)| value);
        let who = field("o").or(field("l")).map_or_else(String::new, |who| format!("{who}, "));
        format!("{who}{} {}", self.address, self.suite)
    }
}

/// What signs for an address, as this system's sources have it; `files` are their texts.
pub(super) fn key(address: &str, files: &[String]) -> String {
    let is_it = |word: &str| word.trim_end_matches('/') == address.trim_end_matches('/');
    let mut keys: Vec<String> = Vec::new();
    let mut add = |key: String| {
        if !keys.contains(&key) {
            keys.push(key);
        }
    };
    for text in files {
        let lines = || text.lines().filter(|line| !line.starts_with('#'));
        for line in lines().filter(|line| line.split_whitespace().any(is_it)) {
            let Some(rest) = line.trim_start().strip_prefix("deb ") else { continue };
            let options = rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'));
            let options = options.map_or("", |(options, _)| options).to_ascii_lowercase();
            let option = |name: &str| {
                let mut words = options.split_whitespace();
                words.find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
            };
            add(match (option("trusted").as_deref(), option("signed-by")) {
                (Some("yes"), _) => NO_KEY.to_owned(),
                (_, Some(key)) => key,
                _ => ANY_KEY.to_owned(),
            });
        }
        let kept: Vec<&str> = lines().collect();
        for stanza in kept.split(|line| line.trim().is_empty()) {
            let field = |name: &str| {
                stanza.iter().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim())
                })
            };
            if !field("URIs").is_some_and(|addresses| addresses.split_whitespace().any(is_it)) {
                continue;
            }
            add(match (field("Trusted"), field("Signed-By")) {
                (Some(trusted), _) if trusted.eq_ignore_ascii_case("yes") => NO_KEY.to_owned(),
                (_, Some("")) => "a key in apt's sources".to_owned(),
                (_, Some(key)) => key.to_owned(),
                _ => ANY_KEY.to_owned(),
            });
        }
    }
    if keys.is_empty() { ANY_KEY.to_owned() } else { keys.join(" or ") }
}

/// The texts of this system's sources.
pub(super) fn sources() -> Vec<String> {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let files = parts.map(|part| part.path()).chain([PathBuf::from("/etc/apt/sources.list")]);
    let is_file = |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    files.filter(is_file).filter_map(|file| fs::read_to_string(Path::new(&file)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
linux-image-amd64:
  Installed: 6.1.176-1
  Candidate: 6.1.192-3
  Version table:
     6.12.74-1~bpo12+1 100
        100 http://mirror.example/debian bookworm-backports/main amd64 Packages
     6.1.192-3 500
        500 http://vendor.example/debian-security stable-security/main amd64 Packages
 *** 6.1.176-1 500
        500 http://mirror.example/debian bookworm/main amd64 Packages
        100 /var/lib/dpkg/status
";

    #[test]
    fn a_candidate_comes_from_the_first_source_that_has_it() {
        let candidate = Candidate::parse(POLICY).unwrap();
        assert_eq!(candidate.version, "6.1.192-3");
        assert_eq!(candidate.address, "http://vendor.example/debian-security");
        let policies = " 500 http://mirror.example/debian bookworm/main amd64 Packages\n     release o=Other\n \
             500 http://vendor.example/debian-security stable-security/main amd64 Packages\n     \
             release v=12,o=Vendor,a=stable-security,l=Vendor-Security,c=main,b=amd64\n     origin vendor.example\n";
        assert_eq!(
            candidate.origin(policies),
            "Vendor, http://vendor.example/debian-security stable-security/main"
        );
        assert_eq!(candidate.origin(""), "http://vendor.example/debian-security stable-security/main");
        let installed = POLICY.replace("Candidate: 6.1.192-3", "Candidate: 6.1.176-1");
        assert_eq!(Candidate::parse(&installed).unwrap().address, "http://mirror.example/debian");
        let only_here = "x:\n  Installed: 1\n  Candidate: 1\n  Version table:\n *** 1 100\n        \
                         100 /var/lib/dpkg/status\n";
        assert_eq!(Candidate::parse(only_here), None);
        assert_eq!(Candidate::parse("x:\n  Candidate: (none)\n  Version table:\n"), None);
    }

    #[test]
    fn a_source_says_which_key_signs_for_it_or_that_none_does() {
        let files = [
            "# deb [trusted=yes] http://a.example/x stable main\n\
             deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://a.example/x/ stable main\n\
             deb [Trusted=YES] http://b.example ./\ndeb http://c.example stable main\n",
            "Types: deb\n# why\nURIs: http://d.example/1 http://d.example/2\nSigned-By: /k/d.gpg\n\n\
             Types: deb\nURIs: http://e.example\nTrusted: yes\n\n\
             Types: deb\nURIs: http://f.example\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n",
        ]
        .map(str::to_owned);
        for (address, expected) in [
            ("http://a.example/x", "/usr/share/keyrings/a.gpg"),
            ("http://b.example", NO_KEY),
            ("http://c.example", ANY_KEY),
            ("http://d.example/2", "/k/d.gpg"),
            ("http://e.example/", NO_KEY),
            ("http://f.example", "a key in apt's sources"),
            ("http://nobody.example", ANY_KEY),
        ] {
            assert_eq!(key(address, &files), expected, "{address}");
        }
        // Where two entries have one address, each may be what apt went by.
        let both = [files[0].clone(), "deb [trusted=yes] http://a.example/x other main\n".to_owned()];
        assert_eq!(key("http://a.example/x", &both), format!("/usr/share/keyrings/a.gpg or {NO_KEY}"));
    }
}
